//! One visit to a page: who it is, what the address asks for, and a way to ask the API for what the page shows.
//!
//! A page computes nothing. It asks the API, in this process and as the same viewer, and draws what it says: what a
//! viewer may not see it is not told here either.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use hyper_util::service::TowerToHyperService;
use maud::{Markup, html};
use serde_json::Value;

use super::super::AdminContext;
use super::super::access::{Role, Viewer};
use super::super::server::Peer;
use super::course::Period;
use super::show::Fields as _;
use super::show::text::{encoded, visible};

/// Longest answer of the API that a page is drawn from, in bytes.
const LONGEST_ANSWER: usize = 64 << 20;

/// What pages are made from.
#[derive(Clone)]
pub(in super::super) struct Pages {
    /// The API as it is served, with its doorkeeper in front.
    pub(in super::super) api: Router,
    /// For the time: that of the figures.
    pub(in super::super) context: Arc<AdminContext>,
}

/// Who looks at a page.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) tenant: Option<String>,
    /// Whether there are buttons. The API decides in the end.
    pub(super) may_act: bool,
    /// What forms send back.
    pub(super) csrf: Option<String>,
}

/// What an address asks for behind its question mark.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    fn of(uri: &Uri) -> Self {
        Self(Query::try_from_uri(uri).map(|Query(asked)| asked).unwrap_or_default())
    }

    /// The first value of a parameter; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// These parameters, as they are sent on to the API, and more of the page's own: `?a=1&b=2`.
    pub(super) fn pick(&self, names: &[&str], more: &[(&str, &str)]) -> String {
        let picked = names.iter().filter_map(|name| Some((*name, self.get(name)?)));
        query(picked.chain(more.iter().copied()))
    }

    /// The parameters with one set to another value; an empty value takes it out.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        self.with_all(&[(name, value)])
    }

    /// The same of several.
    pub(super) fn with_all(&self, changes: &[(&str, &str)]) -> String {
        let kept = |name: &str, value: &str| {
            !value.is_empty() && name != "done" && changes.iter().all(|(known, _)| *known != name)
        };
        let others = self.0.iter().filter(|(name, value)| kept(name, value));
        let set = changes.iter().copied().filter(|(_, value)| !value.is_empty());
        query(others.map(|(name, value)| (name.as_str(), value.as_str())).chain(set))
    }
}

/// Parameters as a query, or nothing where there are none.
pub(super) fn query<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        text.push(if text.is_empty() { '?' } else { '&' });
        text += &encoded(name);
        text.push('=');
        text += &encoded(value);
    }
    text
}

/// What the API said.
#[derive(Debug)]
pub(super) enum Said {
    /// What was asked for.
    Answer(Value),
    /// That it will not, and why.
    Refusal {
        /// The status.
        status: StatusCode,
        /// The problem's detail.
        detail: String,
    },
}

impl Said {
    /// The answer, or what stands in the page in its place.
    pub(super) fn drawn(&self, draw: impl FnOnce(&Value) -> Markup) -> Markup {
        match self {
            Self::Answer(value) => draw(value),
            Self::Refusal { status, detail } => html! {
                p.missing { "Not available (" (status.as_u16()) "): " (visible(detail)) }
            },
        }
    }

    pub(super) fn answer(&self) -> Option<&Value> {
        match self {
            Self::Answer(value) => Some(value),
            Self::Refusal { .. } => None,
        }
    }
}

/// A visit to a page.
pub(super) struct Visit {
    pub(super) who: Who,
    /// The page's path.
    pub(super) path: String,
    pub(super) asked: Asked,
    /// The figures' time, in µs since 1970.
    pub(super) now_us: u64,
    /// When the process began.
    pub(super) begun_us: u64,
    viewer: Viewer,
    peer: Option<Peer>,
    host: Option<header::HeaderValue>,
    api: Router,
}

impl FromRequestParts<Pages> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Infallible> {
        // Without a viewer nobody let the request in, and this one may see nothing: a tenant that cannot be.
        let viewer = parts.extensions.get::<Viewer>().cloned().unwrap_or_else(|| Viewer::of_tenant("", ""));
        Ok(Self {
            who: Who {
                name: viewer.name().to_owned(),
                role: viewer.role(),
                tenant: viewer.tenant().map(str::to_owned),
                may_act: viewer.may_act(),
                csrf: viewer.csrf().map(str::to_owned),
            },
            path: parts.uri.path().to_owned(),
            asked: Asked::of(&parts.uri),
            now_us: pages.context.telemetry.clock.micros(Instant::now()),
            begun_us: pages.context.telemetry.clock.start_us(),
            viewer,
            peer: parts.extensions.get().copied(),
            host: parts.headers.get(header::HOST).cloned(),
            api: pages.api.clone(),
        })
    }
}

impl Visit {
    /// The page's own address, to come back to.
    pub(super) fn here(&self) -> String {
        format!("{}{}", self.path, self.asked.with("", ""))
    }

    /// Asks the API for something.
    pub(super) async fn get(&self, address: impl Into<String>) -> Said {
        self.send(Method::GET, &address.into(), None).await
    }

    /// The same for what only some may see: others are not even asked for.
    pub(super) async fn get_if(&self, may: bool, address: impl Into<String>) -> Option<Said> {
        if may { Some(self.get(address).await) } else { None }
    }

    /// Sends the API a request. Where it changes something, the form that it comes from has been checked.
    pub(super) async fn send(&self, method: Method, address: &str, body: Option<&Value>) -> Said {
        let mut request = Request::builder().method(method).uri(address).header("x-requested-with", "pages");
        if let Some(host) = &self.host {
            request = request.header(header::HOST, host);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let Ok(mut request) = request.body(body) else {
            return refusal(StatusCode::BAD_REQUEST, "this cannot be asked for");
        };
        request.extensions_mut().insert(self.viewer.clone());
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let service = TowerToHyperService::new(self.api.clone());
        let Ok(response) = hyper::service::Service::call(&service, request).await;
        let status = response.status();
        let Ok(bytes) = axum::body::to_bytes(response.into_body(), LONGEST_ANSWER).await else {
            return refusal(StatusCode::BAD_GATEWAY, "the answer is too long for a page");
        };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Said::Answer(value);
        }
        let detail = match value.text("detail") {
            "" => status.canonical_reason().unwrap_or("it was refused"),
            detail => detail,
        };
        // A refusal may list what is wrong.
        let wrong: Vec<&str> = value.list("errors").iter().filter_map(Value::as_str).collect();
        let more = if wrong.is_empty() { String::new() } else { format!(": {}", wrong.join("; ")) };
        refusal(status, &format!("{detail}{more}"))
    }

    /// The period that is asked for.
    pub(super) fn period(&self) -> Period {
        Period::named(self.asked.get("period"), self.now_us.saturating_sub(self.begun_us))
    }

    /// The same where the page has figures since the start unless a period is asked for.
    pub(super) fn chosen_period(&self) -> Option<Period> {
        Period::known(self.asked.get("period"))
    }

    /// Whether this viewer sees more than one tenant.
    pub(super) fn sees_all(&self) -> bool {
        self.who.tenant.is_none()
    }
}

fn refusal(status: StatusCode, detail: &str) -> Said {
    Said::Refusal { status, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_what_is_asked_for() {
        let asked = Asked::of(&"/queries?sort=calls&text=a%26b%20c&limit=&done=x".parse().unwrap());
        assert_eq!((asked.get("text"), asked.get("limit"), asked.get("tenant")), (Some("a&b c"), None, None));
        assert_eq!(asked.with("sort", "rows"), "?text=a%26b%20c&sort=rows");
        assert_eq!(asked.with("sort", ""), "?text=a%26b%20c");
        assert_eq!(asked.pick(&["sort", "tenant"], &[("limit", "5")]), "?sort=calls&limit=5");
        assert_eq!(Asked::of(&"/queries".parse().unwrap()).with("", ""), "");
    }
}
