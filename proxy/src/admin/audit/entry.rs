//! One thing that somebody has done, as it is kept, shown and logged.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Query;
use axum::http::{Method, Uri};
use serde_json::{Value, json};

use crate::admin::access::Viewer;
use crate::admin::request_id::RequestId;
use crate::telemetry::clock::rfc3339_us;

/// Parameters whose values are noted: names, numbers and words. Of all others only that they were there: what somebody
/// searches for may be what they are looking at.
const PLAIN: &[&str] = &[
    "application",
    "class",
    "cursor",
    "database",
    "fingerprint",
    "for",
    "format",
    "from",
    "kind",
    "limit",
    "period",
    "series",
    "since",
    "sort",
    "state",
    "step",
    "tenant",
    "user",
    "wait",
];

/// Longest address that is noted, in characters.
const MAX_ASKED: usize = 512;

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Kind {
    /// They looked.
    View,
    /// They changed something, or tried.
    Action,
    /// They were not let in, or not so far.
    Refused,
}

impl Kind {
    /// Its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Action => "action",
            Self::Refused => "refused",
        }
    }

    /// By its word.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::View, Self::Action, Self::Refused].into_iter().find(|kind| kind.word() == word)
    }
}

/// A request and what came of it.
#[derive(Debug, Clone)]
pub(in crate::admin) struct Deed {
    pub(super) kind: Kind,
    /// `None`: nobody that is known.
    pub(super) viewer: Option<Viewer>,
    pub(super) from: Option<IpAddr>,
    /// Of the request; `CONSOLE`: a command on the console.
    pub(super) method: Method,
    /// Path and parameters, without what may be secret; the command.
    pub(super) asked: String,
    pub(super) status: u16,
    pub(super) duration: Duration,
    pub(super) request_id: RequestId,
    /// Why it was refused.
    pub(super) why: Option<&'static str>,
}

impl Deed {
    /// Whether the same one has asked for the same with the same outcome.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let who = |deed: &Self| deed.viewer.as_ref().map(|viewer| viewer.name().to_owned());
        (self.kind, self.from, self.status, self.why) == (other.kind, other.from, other.status, other.why)
            && self.asked == other.asked
            && self.method == other.method
            && who(self) == who(other)
    }

    /// A line of the log. `repeated`: how often the same was there since its last line.
    pub(super) fn log(&self, repeated: u64) {
        let viewer = self.viewer.as_ref();
        let (who, role) = (viewer.map(Viewer::name), viewer.map(|viewer| viewer.role().word()));
        let tenant = viewer.and_then(Viewer::tenant);
        let from = self.from.map(tracing::field::display);
        let (method, path, status) = (self.method.as_str(), self.asked.as_str(), self.status);
        let (ms, request_id) = (millis(self.duration), self.request_id.as_str());
        let repeated = (repeated > 0).then_some(repeated);
        match self.kind {
            Kind::View => {
                tracing::info!(target: "pgweir::audit", who, role, tenant, from, method, path, status, ms, request_id, repeated, "view");
            }
            Kind::Action => {
                tracing::info!(target: "pgweir::audit", who, role, tenant, from, method, path, status, ms, request_id, repeated, "action");
            }
            // A target of its own, which is not exempt from the bound on repeated lines: anybody can cause these.
            Kind::Refused => {
                tracing::warn!(target: "pgweir::audit::refused", who, role, tenant, from, method, path, status, why = self.why, request_id, repeated, "refused");
            }
        }
    }
}

/// One or several of the same.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) first_us: u64,
    pub(super) last_us: u64,
    pub(super) times: u64,
    pub(super) deed: Deed,
}

impl Entry {
    /// As `/api/v1/audit` shows it.
    pub(super) fn shown(&self) -> Value {
        let Deed { kind, viewer, from, method, asked, status, duration, request_id, why } = &self.deed;
        let viewer = viewer.as_ref();
        json!({
            "id": self.id,
            "at": rfc3339_us(self.first_us),
            "last": rfc3339_us(self.last_us),
            "times": self.times,
            "kind": kind.word(),
            "who": viewer.map(Viewer::name),
            "role": viewer.map(|viewer| viewer.role().word()),
            "tenant": viewer.and_then(Viewer::tenant),
            "from": from.map(|from| from.to_string()),
            "method": method.as_str(),
            "path": asked,
            "status": status,
            "ms": millis(*duration),
            "request_id": request_id.as_str(),
            "why": why,
        })
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A path with its parameters, as far as they are plain.
pub(super) fn shown(uri: &Uri) -> String {
    let mut text: String = uri.path().chars().take(MAX_ASKED).collect();
    if uri.query().is_some() {
        let asked = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(asked)| asked).unwrap_or_default();
        let parts = asked.iter().map(|(name, value)| match PLAIN.contains(&&**name) {
            true => format!("{name}={}", plain(value)),
            false => format!("{}=…", plain(name)),
        });
        text = format!("{text}?{}", parts.collect::<Vec<_>>().join("&"));
    }
    cut(text)
}

/// The beginning of a text that is noted as it is, without what could end a line.
pub(super) fn beginning(text: &str) -> String {
    cut(text.chars().take(MAX_ASKED + 1).map(|letter| if letter.is_control() { '·' } else { letter }).collect())
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_ASKED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Without what could end a line, or a parameter.
fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() || matches!(letter, '&' | '=' | '?') { '·' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_parameters_are_noted() {
        for (uri, expected) in [
            ("/api/v1/queries", "/api/v1/queries"),
            ("/api/v1/queries?tenant=acme&limit=5", "/api/v1/queries?tenant=acme&limit=5"),
            ("/api/v1/queries?text=4111-1111&sort=calls", "/api/v1/queries?text=…&sort=calls"),
            ("/x?token=pgweir_secret&csrf=abc", "/x?token=…&csrf=…"),
            ("/x?tenant=a%0Ab%26c%3Dd", "/x?tenant=a·b·c·d"),
            ("/x?a%0Ab=c", "/x?a·b=…"),
            ("/x?", "/x?"),
        ] {
            assert_eq!(shown(&uri.parse().unwrap()), expected, "{uri}");
        }
        let long = format!("/{}?tenant={}", "x".repeat(700), "y".repeat(700));
        assert_eq!(shown(&long.parse().unwrap()).chars().count(), MAX_ASKED + 1);
    }
}
