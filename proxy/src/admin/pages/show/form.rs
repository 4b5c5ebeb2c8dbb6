//! Forms: filters that are plain GET, and actions that are POST behind a second look. Both work without any script.

use std::borrow::Cow;

use maud::{Markup, html};

use super::super::visit::Visit;
use super::text::visible;

/// A choice: its name in the query, its title, and the values with their titles.
pub(in super::super) struct Choice<'a> {
    /// The parameter.
    pub(in super::super) name: &'a str,
    /// What it is called.
    pub(in super::super) title: &'a str,
    /// Values and titles; the empty value is the default.
    pub(in super::super) values: &'a [(&'a str, &'a str)],
}

/// One thing of a filter.
pub(in super::super) enum Field<'a> {
    /// One of a few.
    Choice(Choice<'a>),
    /// Any text.
    Text {
        /// The parameter.
        name: &'a str,
        /// What it is called.
        title: &'a str,
    },
}

/// A filter of the page that is being shown: its fields hold what is asked for now, and what else is in the address is kept.
pub(in super::super) fn filter(visit: &Visit, fields: &[Field<'_>], keep: &[&str]) -> Markup {
    html! {
        form.filter method="get" action=(visit.path) role="search" {
            @for name in keep {
                @if let Some(value) = visit.asked.get(name) { input type="hidden" name=(name) value=(visible(value)); }
            }
            @for (at, field) in fields.iter().enumerate() {
                @match field {
                    Field::Choice(choice) => label { span { (choice.title) } select name=(choice.name) {
                        @for (value, title) in choice.values {
                            option value=(value) selected[visit.asked.get(choice.name).unwrap_or_default() == *value] { (title) }
                        }
                    } },
                    Field::Text { name, title } => label { span { (title) }
                        input type="search" name=(name) value=(visible(visit.asked.get(name).unwrap_or_default()))
                            autocomplete="off" spellcheck="false" aria-keyshortcuts=[(at == 0).then_some("/")] data-filter[at == 0];
                    },
                }
            }
            button type="submit" { "Apply" }
            // One choice has its own way back.
            @if !matches!(fields, [Field::Choice(_)]) && fields.iter().any(|field| visit.asked.get(field.name()).is_some_and(|value| !value.is_empty())) {
                a.clear href=(visit.path) { "Clear" }
            }
        }
    }
}

impl Field<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Choice(choice) => choice.name,
            Self::Text { name, .. } => name,
        }
    }
}

/// Something that is done by a button.
#[derive(Default)]
pub(in super::super) struct Action<'a> {
    /// Its name: the path below `/actions/`.
    pub(in super::super) name: &'a str,
    /// What the button says.
    pub(in super::super) title: &'a str,
    /// What is sent along.
    pub(in super::super) fields: &'a [(&'a str, &'a str)],
    /// What will happen: shown before it does. Empty: the button does it at once.
    pub(in super::super) warning: &'a str,
    /// It takes something away from somebody.
    pub(in super::super) grave: bool,
    /// Fields that are filled in first.
    pub(in super::super) inputs: Option<Markup>,
}

/// The action's form, for those who may act: nothing at all for others.
pub(in super::super) fn action(visit: &Visit, action: &Action<'_>) -> Markup {
    if !visit.who.may_act {
        return html! {};
    }
    // A page cannot carry every sign there and back: what would come back is another name.
    if action.fields.iter().any(|(_, value)| matches!(visible(value), Cow::Owned(_))) {
        return html! { p.note { (action.title) ": not by a form, for its name has signs that a page cannot carry." } };
    }
    let form = html! {
        form method="post" action={ "/actions/" (action.name) } {
            @if let Some(csrf) = &visit.who.csrf { input type="hidden" name="csrf" value=(csrf); }
            input type="hidden" name="back" value=(visit.here());
            @for (name, value) in action.fields { input type="hidden" name=(name) value=(value); }
            @if !action.warning.is_empty() { p { (action.warning) } }
            @if let Some(inputs) = &action.inputs { (inputs) }
            button type="submit" class=[action.grave.then_some("grave")] { (action.title) }
        }
    };
    if action.warning.is_empty() && action.inputs.is_none() {
        return html! { div.action { (form) } };
    }
    html! { details.action { summary { (action.title) "…" } (form) } }
}
