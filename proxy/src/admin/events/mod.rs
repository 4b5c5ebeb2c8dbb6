//! `/api/v1/events`: what happens, as it does, as server-sent events.
//!
//! ```text
//!   watch (every 2 s) ── events ──► ring of the last 1,024 ──► each stream, from where it is
//!                     └─ tick ────► the latest one         ──► each stream
//! ```
//!
//! A stream holds a place in the ring and nothing else: one whose reader is slow falls behind, and is told how many it
//! has missed. Streams end after ten minutes; a browser comes back by itself and says where it was. One ends before that, at the
//! next look, when new settings would no longer let its reader in as what it is.

pub(super) mod memory;
mod places;
pub(super) mod samples;
mod stream;
pub(super) mod watch;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::{Notify, watch as latest};

use super::access::Viewer;
use super::api::Context;
use super::problem::Problem;
use super::server::Lasting;
use crate::telemetry::lock;
use memory::Memory;
use places::Places;
use stream::Stream;
use watch::Tick;

/// Events that are kept for streams that come back.
const KEPT: usize = 1_024;
/// One event.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// What kind it is.
    pub(super) kind: &'static str,
    /// Whose it is; `None`: of nobody in particular, and of no business of a tenant's.
    pub(super) tenant: Option<String>,
    /// What happened.
    pub(super) data: Value,
}

/// What has happened lately, and who wants to be told.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    /// What the watch knows, for the overview.
    memory: Mutex<Memory>,
    news: latest::Sender<News>,
    wake: Notify,
    places: Places,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    /// The number of the next one.
    next: u64,
}

/// What wakes a stream.
#[derive(Debug, Clone, Default)]
struct News {
    next: u64,
    tick: Arc<Tick>,
    closed: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            memory: Mutex::default(),
            news: latest::Sender::new(News::default()),
            wake: Notify::new(),
            places: Places::default(),
        }
    }
}

/// What a stream gets at once.
#[derive(Debug, PartialEq)]
struct Batch {
    /// Each with its number.
    events: Vec<(u64, &'static str, String)>,
    /// Where it goes on.
    next: u64,
    /// Events that have left the ring before they were read.
    lost: u64,
}

/// Events handed to a stream at once: what is written for one is bounded.
const BATCH: usize = 64;

impl Events {
    /// Has the watch look at once: something has been done.
    pub(super) fn soon(&self) {
        self.wake.notify_one();
    }

    /// Streams that are open.
    fn streams(&self) -> usize {
        self.places.taken()
    }

    /// Takes what the watch has seen.
    fn publish(&self, events: Vec<Event>, tick: Tick) {
        let next = {
            let mut ring = lock(&self.ring);
            for event in events {
                if ring.events.len() >= KEPT {
                    ring.events.pop_front();
                }
                ring.events.push_back(event);
                ring.next += 1;
            }
            ring.next
        };
        self.news.send_modify(|news| (news.next, news.tick) = (next, Arc::new(tick)));
    }

    /// Ends all streams: the port closes.
    pub(super) fn close(&self) {
        self.news.send_modify(|news| news.closed = true);
    }

    /// What somebody may see of what came from the event `from` on.
    fn after(&self, from: u64, tenant: Option<&str>) -> Batch {
        let ring = lock(&self.ring);
        let oldest = ring.next - ring.events.len() as u64;
        let begin = from.clamp(oldest, ring.next);
        let mut batch = Batch { events: Vec::new(), next: begin, lost: begin.saturating_sub(from) };
        for (number, event) in (oldest..).zip(&ring.events).skip((begin - oldest) as usize) {
            if batch.events.len() == BATCH {
                return batch;
            }
            batch.next = number + 1;
            if tenant.is_none() || event.tenant.as_deref() == tenant {
                batch.events.push((number, event.kind, event.data.to_string()));
            }
        }
        batch
    }

    /// What the watch knows by now.
    pub(super) fn memory(&self) -> Memory {
        lock(&self.memory).clone()
    }

    /// The numbers of the last look.
    pub(super) fn tick(&self) -> Arc<Tick> {
        self.news.borrow().tick.clone()
    }
}

/// `/api/v1/events`.
pub(super) async fn events(
    State(context): Context,
    Extension(viewer): Extension<Viewer>,
    lasting: Option<Extension<Lasting>>,
    asked: super::openapi::parameters::Asked,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = viewer.has_token().then(|| viewer.name());
    let place = context.events.places.take(token).map_err(|full| {
        let detail = format!("{full}; close one, or ask for /api/v1/overview");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    // The connection lives as long as a stream may.
    if let Some(Extension(lasting)) = lasting {
        lasting.last();
    }
    let tenant = viewer.tenant().or(asked.text("tenant")).map(str::to_owned);
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let stream = Stream::new(context, place, viewer, tenant, last.as_deref());
    let mut response = axum::body::Body::new(stream.into_body()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // A proxy in between that gathers answers would hold every event up.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(tenant: Option<&str>, n: u64) -> Event {
        Event { kind: "finding", tenant: tenant.map(str::to_owned), data: json!({"n": n}) }
    }

    #[test]
    fn a_stream_goes_on_where_it_was_and_hears_what_it_missed() {
        let events = Events::default();
        events.publish((0..KEPT as u64 + 10).map(|n| event(None, n)).collect(), Tick::default());
        let batch = events.after(0, None);
        assert_eq!((batch.lost, batch.events.len(), batch.events[0].0), (10, BATCH, 10));
        let batch = events.after(KEPT as u64 + 8, None);
        assert_eq!((batch.lost, batch.events.len(), batch.next), (0, 2, KEPT as u64 + 10));
        assert_eq!(events.after(batch.next, None).events, []);
        // From the time to come: another process said so.
        assert_eq!(events.after(u64::MAX, None).next, batch.next);
    }

    #[test]
    fn a_tenant_hears_of_its_own_alone() {
        let events = Events::default();
        let all = [event(Some("acme"), 1), event(Some("beta"), 2), event(None, 3), event(Some("acme"), 4)];
        events.publish(all.into(), Tick::default());
        let batch = events.after(0, Some("acme"));
        assert_eq!(batch.events.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [0, 3]);
        assert_eq!((batch.next, events.after(0, None).events.len()), (4, 4));
    }
}
