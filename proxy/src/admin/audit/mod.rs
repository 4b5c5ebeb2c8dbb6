//! Who has asked for what over the admin port, and who has done what on the console: in the log, and the last of it in
//! memory.
//!
//! Views, actions and refusals are kept apart, so that somebody who knocks at the door all day does not push out of
//! memory what others have done inside. What is the same again within a minute is counted in one entry, and is one line.

mod console;
mod entry;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tracing::Instrument as _;

use super::access::{self, Gate, Refused, Viewer, may_change};
use super::openapi::parameters::Asked;
use super::page::{Place, page};
use super::problem::Problem;
use super::request_id::{self, RequestId};
use super::server::Peer;
use crate::telemetry::Clock;
pub(crate) use console::Command;
use entry::Entry;
pub(super) use entry::{Deed, Kind};

/// Views that are kept, actions, and refusals.
const KEPT_VIEWS: usize = 1_000;
const KEPT_ACTIONS: usize = 1_000;
const KEPT_REFUSALS: usize = 500;
/// What is the same again within this time is counted, not noted anew.
const SAME_US: u64 = 60_000_000;
/// How far back the same is looked for.
const LOOKED_AT: usize = 64;

/// What is kept.
pub struct Audit {
    clock: Clock,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    views: VecDeque<Entry>,
    actions: VecDeque<Entry>,
    refused: VecDeque<Entry>,
    next: u64,
}

impl Noted {
    /// Notes what has been done. Gives what is to be logged of it: how often it was repeated since the last line; `None`:
    /// it is a repetition itself.
    fn note(&mut self, deed: Deed, at_us: u64) -> Option<u64> {
        let (ring, most) = match deed.kind {
            Kind::Refused => (&mut self.refused, KEPT_REFUSALS),
            Kind::View => (&mut self.views, KEPT_VIEWS),
            Kind::Action => (&mut self.actions, KEPT_ACTIONS),
        };
        // What changes something is never the same as before.
        let before = match deed.kind {
            Kind::Action => None,
            _ => ring.iter_mut().rev().take(LOOKED_AT).find(|entry| entry.deed.is_same(&deed)),
        };
        let repeated = match before {
            Some(before) if at_us.saturating_sub(before.first_us) < SAME_US => {
                before.times += 1;
                before.last_us = at_us;
                return None;
            }
            Some(before) => before.times - 1,
            None => 0,
        };
        if ring.len() >= most {
            ring.pop_front();
        }
        self.next += 1;
        ring.push_back(Entry { id: self.next, first_us: at_us, last_us: at_us, times: 1, deed });
        Some(repeated)
    }

    /// Those of a kind, or all, in no order.
    fn entries(&self, kind: Option<Kind>) -> Vec<&Entry> {
        let wanted = |entry: &&Entry| kind.is_none_or(|kind| kind == entry.deed.kind);
        self.views.iter().chain(&self.actions).chain(&self.refused).filter(wanted).collect()
    }
}

impl Audit {
    /// Nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, noted: Mutex::default() }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, deed: Deed, wanted: config::Audit, now: Instant) {
        let is_wanted = match wanted {
            config::Audit::All => true,
            config::Audit::Actions => deed.kind != Kind::View,
            config::Audit::Off => false,
        };
        if !is_wanted {
            return;
        }
        let at_us = self.clock.micros(now);
        // A copy for the log: nothing is written under the lock.
        if let Some(repeated) = { self.noted().note(deed.clone(), at_us) } {
            deed.log(repeated);
        }
    }
}

/// Gives each request its id, notes who has asked for what and what came of it, and tells the id in the answer.
pub(super) async fn watch(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let peer = request.extensions().get::<Peer>().copied();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let began = Instant::now();
    let mut response = next.run(request).instrument(id.span()).await;
    let refused = response.extensions_mut().remove::<Refused>();
    let viewer = response.extensions_mut().remove::<Viewer>();
    request_id::tell(&mut response, &id);
    let kind = match &refused {
        Some(_) => Kind::Refused,
        None if may_change(&method) => Kind::Action,
        None => Kind::View,
    };
    if kind == Kind::View && is_noise(uri.path()) {
        return response;
    }
    let now = Instant::now();
    let deed = Deed {
        kind,
        viewer,
        from: peer.map(|Peer(address)| address.ip().to_canonical()),
        method,
        asked: entry::shown(&uri),
        status: response.status().as_u16(),
        duration: now.saturating_duration_since(began),
        request_id: id,
        why: refused.map(|Refused(why)| why),
    };
    let wanted = wanted(&gate.context.state.settings());
    gate.context.audit.note(deed, wanted, now);
    response
}

/// What is to be noted.
fn wanted(settings: &config::Settings) -> config::Audit {
    settings.admin.as_ref().map_or(config::Audit::All, |admin| admin.audit)
}

/// What machines ask for all the time, what belongs to pages, and the form that asks for a token: nothing is learned by it.
fn is_noise(path: &str) -> bool {
    ["/livez", "/readyz", "/metrics", "/login", "/favicon.ico"].contains(&path) || path.starts_with("/assets/")
}

/// `GET /api/v1/audit`: for operators alone, for it tells of others.
pub(super) async fn list(
    Extension(gate): Extension<Arc<Gate>>,
    Extension(viewer): Extension<Viewer>,
    asked: Asked,
) -> Response {
    if !viewer.may_act() {
        return access::for_operators("the audit log is shown to operators alone");
    }
    listed(&gate.context.audit.noted(), &asked).into_response()
}

/// The latest first.
fn listed(noted: &Noted, asked: &Asked) -> Result<Json<Value>, Problem> {
    let entries = noted.entries(asked.text("kind").and_then(Kind::from_word));
    let (total, entries, next) = page(asked, entries, |entry| Place::by_number(entry.id as f64, ""))?;
    let shown: Vec<_> = entries.into_iter().map(Entry::shown).collect();
    Ok(Json(json!({"total": total, "audit": shown, "next": next})))
}

#[cfg(test)]
mod tests;
