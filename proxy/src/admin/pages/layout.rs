//! The frame of every page: head, menu, title, and where the live figures come from.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::access::Role;
use super::assets::{Links, links};
use super::course::Period;
use super::show::text::{name, segment};
use super::visit::{Visit, Who, query};

/// A place in the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Queries,
    Findings,
    Tenants,
    Pools,
    Connections,
    Cache,
    Limits,
    Config,
    Audit,
}

impl Section {
    const ALL: [Self; 10] = [
        Self::Overview,
        Self::Queries,
        Self::Findings,
        Self::Tenants,
        Self::Pools,
        Self::Connections,
        Self::Cache,
        Self::Limits,
        Self::Config,
        Self::Audit,
    ];

    fn title(self, who: &Who) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Queries => "Queries",
            Self::Findings => "Findings",
            Self::Tenants if who.tenant.is_some() => "Tenant",
            Self::Tenants => "Tenants",
            Self::Pools => "Pools",
            Self::Connections => "Connections",
            Self::Cache => "Cache",
            Self::Limits => "Limits",
            Self::Config => "Config",
            Self::Audit => "Audit",
        }
    }

    fn link(self, who: &Who) -> String {
        let path = match self {
            Self::Overview => "/",
            Self::Queries => "/queries",
            Self::Findings => "/findings",
            Self::Tenants => match who.tenant.as_deref().and_then(segment) {
                Some(own) => return format!("/tenants/{own}"),
                None => "/tenants",
            },
            Self::Pools => "/pools",
            Self::Connections => "/connections",
            Self::Cache => "/cache",
            Self::Limits => "/limits",
            Self::Config => "/config",
            Self::Audit => "/audit",
        };
        path.to_owned()
    }

    /// Whether this viewer may open it: what is of the whole proxy is closed to who sees one tenant, and what others have
    /// done is an operator's alone.
    fn is_open(self, who: &Who) -> bool {
        let of_tenants = [Self::Overview, Self::Queries, Self::Findings, Self::Tenants, Self::Connections];
        match self {
            Self::Audit => who.may_act,
            section => who.tenant.is_none() || of_tenants.contains(&section),
        }
    }
}

/// What a page is, beside its content.
pub(super) struct Sheet<'a> {
    pub(super) title: &'a str,
    /// Where it stands in the menu.
    pub(super) here: Section,
    /// The JSON that it was drawn from.
    pub(super) twin: Option<String>,
    /// What stands under the title.
    pub(super) lead: Option<Markup>,
    /// The list that it is one of, and its title.
    pub(super) above: Option<(&'a str, &'a str)>,
    pub(super) status: StatusCode,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(title: &'a str, here: Section) -> Self {
        Self { title, here, twin: None, lead: None, above: None, status: StatusCode::OK }
    }

    pub(super) fn twin(self, address: impl Into<String>) -> Self {
        Self { twin: Some(address.into()), ..self }
    }

    pub(super) fn lead(self, lead: Markup) -> Self {
        Self { lead: Some(lead), ..self }
    }

    pub(super) fn above(self, link: &'a str, title: &'a str) -> Self {
        Self { above: Some((link, title)), ..self }
    }

    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

/// A whole page.
pub(super) fn page(visit: &Visit, sheet: &Sheet<'_>, content: &Markup) -> Response {
    let links = links();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(&links, sheet.title))
                @if let Some(twin) = &sheet.twin { link rel="alternate" type="application/json" href=(twin); }
                script src=(links.charts) defer {}
                script src=(links.script) defer {}
            }
            body {
                a.skip href="#content" { "Skip to content" }
                (top(visit, sheet))
                main #content tabindex="-1" {
                    header.title {
                        @if let Some((link, title)) = sheet.above { p.above { a href=(link) { (title) } } }
                        div {
                            h1 { (name(sheet.title)) }
                            @if let Some(twin) = &sheet.twin { a.twin href=(twin) { "JSON" } }
                        }
                        @if let Some(lead) = &sheet.lead { p.lead { (lead) } }
                    }
                    (done(visit))
                    (content)
                }
                (bottom(&links))
            }
        }
    };
    document(sheet.status, markup)
}

/// An HTML answer. What it may load and where its forms may go the server says of all of them.
pub(super) fn document(status: StatusCode, markup: Markup) -> Response {
    let PreEscaped(text) = markup;
    (status, Html(text)).into_response()
}

/// What every document's head has.
pub(super) fn head(links: &Links, title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        title { (super::show::text::visible(title)) " · pgweir" }
        link rel="icon" type="image/svg+xml" href=(links.icon);
        link rel="stylesheet" href=(links.charts_style);
        link rel="stylesheet" href=(links.style);
        // Before anything is drawn: a page that turns dark in the reader's face is worse than a request that blocks.
        script src=(links.theme) {}
    }
}

/// Who asks where no token is set: there is nothing to log out of.
const LOCAL: &str = "local";

fn top(visit: &Visit, sheet: &Sheet<'_>) -> Markup {
    let who = &visit.who;
    html! {
        header.top {
            a.brand href="/" { (mark()) span { "pgweir" } }
            nav aria-label="Pages" {
                ul {
                    @for section in Section::ALL.into_iter().filter(|section| section.is_open(who)) {
                        li { a href=(section.link(who)) aria-current=[(section == sheet.here).then_some("page")] { (section.title(who)) } }
                    }
                }
            }
            div.state {
                p.live #live-state data-state="none" { span.dot aria-hidden="true" {} span.words { "not live" } }
                button #live-switch type="button" hidden { "Pause" }
                button #theme-switch type="button" hidden { "Theme" }
                p.who title={ "role: " (who.role.word()) } { (name(&who.name)) @if who.role != Role::Operator { " " span.role { (who.role.word()) } } }
                @if let Some(csrf) = who.csrf.as_ref().filter(|_| who.name != LOCAL) {
                    form.logout method="post" action="/logout" {
                        input type="hidden" name="csrf" value=(csrf);
                        button type="submit" { "Log out" }
                    }
                }
            }
        }
        p.unseen #announce role="status" aria-live="polite" {}
    }
}

fn bottom(links: &Links) -> Markup {
    html! {
        footer.bottom {
            p { "pgweir " (env!("CARGO_PKG_VERSION")) " · times are UTC · " kbd { "/" } " filters · charts by "
                a href=(links.charts_licence) { "uPlot" } }
        }
    }
}

/// The mark: water that is held and goes on at its own level.
pub(super) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" focusable="false" {
            path.high d="M2 8c2.5-2.6 4.500-2.600 7 0v11H2z" {}
            path.low d="M11 15c2-2 3.500-2 5.500 0s3.500 2 5.500 0v4H11z" {}
        }
    }
}

/// What the last action did, in words that are kept here: an address can name one of them and nothing else.
const DONE: &[(&str, &str)] = &[
    ("acknowledge", "The finding is acknowledged."),
    ("withdraw", "The acknowledgement is withdrawn."),
    ("mute", "Findings like this one are muted."),
    ("unmute", "The mute is taken away."),
    ("reset", "Statistics are counted anew from now on."),
    ("reload", "The configuration was read again."),
    ("pause", "Paused: clients of the database wait until it is resumed."),
    ("resume", "Resumed."),
    ("reconnect", "Server connections are replaced, each at its next boundary."),
    ("kill", "The client's connection is ended."),
    ("cancel", "The statement is being cancelled."),
    ("log-level", "The log's level is set."),
    ("cache-mode", "The cache's mode is set."),
    ("cache-end", "These answers are not given any more."),
    ("drain", "The process drains: it ends when its clients are done."),
];

fn done(visit: &Visit) -> Markup {
    let said = visit.asked.get("done").and_then(|done| DONE.iter().find(|(known, _)| *known == done));
    html! { @if let Some((_, words)) = said { p.done role="status" { (words) } } }
}

/// Whether there are words for what this action did.
pub(super) fn is_told(action: &str) -> bool {
    DONE.iter().any(|(known, _)| *known == action)
}

/// A link to a tenant's page.
pub(super) fn tenant_link(tenant: &str) -> Markup {
    match segment(tenant) {
        Some(path) => html! { a href={ "/tenants/" (path) } { (name(tenant)) } },
        None => super::show::text::name_or_none(tenant),
    }
}

/// A link to a statement's page, kept to one tenant where one is given.
pub(super) fn statement_link(fingerprint: &str, tenant: &str, shown: &Markup) -> Markup {
    statement_link_of(fingerprint, tenant, None, shown)
}

/// The same, kept to the period that is looked at.
pub(super) fn statement_link_of(fingerprint: &str, tenant: &str, period: Option<Period>, shown: &Markup) -> Markup {
    let Some(path) = segment(fingerprint) else { return shown.clone() };
    let period = period.as_ref().map_or("", |period| period.name);
    let asked = query([("tenant", tenant), ("period", period)].into_iter().filter(|(_, value)| !value.is_empty()));
    html! { a.statement href={ "/queries/" (path) (asked) } { (shown) } }
}
