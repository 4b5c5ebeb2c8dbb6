//! Tables: a caption, heads with a scope, sorting by links, figures on the right.

use maud::{Markup, html};

/// A column's head.
pub(in super::super) struct Column<'a> {
    /// What it says.
    pub(in super::super) title: &'a str,
    /// Figures: on the right.
    pub(in super::super) figures: bool,
    /// Where a click leads that sorts by it, and whether it is sorted by it now.
    pub(in super::super) sort: Option<(String, bool)>,
    /// Left out where the window is narrow.
    pub(in super::super) minor: bool,
}

impl<'a> Column<'a> {
    /// Of texts.
    pub(in super::super) fn text(title: &'a str) -> Self {
        Self { title, figures: false, sort: None, minor: false }
    }

    /// Of figures.
    pub(in super::super) fn figures(title: &'a str) -> Self {
        Self { title, figures: true, sort: None, minor: false }
    }

    /// One that is left out where the window is narrow.
    pub(in super::super) fn minor(self) -> Self {
        Self { minor: true, ..self }
    }

    /// One that rows can be sorted by.
    pub(in super::super) fn sorted(self, link: String, now: bool) -> Self {
        Self { sort: Some((link, now)), ..self }
    }

    fn class(&self) -> Option<&'static str> {
        match (self.figures, self.minor) {
            (true, true) => Some("figures minor"),
            (true, false) => Some("figures"),
            (false, true) => Some("minor"),
            (false, false) => None,
        }
    }

    fn head(&self) -> Markup {
        let order = self.sort.as_ref().map(|(_, now)| if *now { "descending" } else { "none" });
        html! {
            th scope="col" class=[self.class()] aria-sort=[order] {
                @match &self.sort {
                    Some((link, now)) => a href=(link) { (self.title) @if *now { span aria-hidden="true" { " ↓" } } },
                    None => (self.title),
                }
            }
        }
    }
}

/// A table with these rows, each a list of cells as wide as the head; `empty` stands in place of no rows.
pub(in super::super) fn draw(caption: &str, columns: &[Column<'_>], rows: &[Vec<Markup>], empty: &str) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { (empty) } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { @for column in columns { (column.head()) } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (column, cell) in columns.iter().zip(row) { td class=[column.class()] { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// Names and values beside each other.
pub(in super::super) fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
        }
    }
}
