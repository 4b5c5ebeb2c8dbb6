//! One stream of events, as the body of an answer.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use config::Settings;
use hyper::body::{Body, Frame};
use tokio::sync::watch as latest;
use tokio::time::Instant;

use super::News;
use super::places::Place;
use super::watch::Tick;
use crate::admin::AdminContext;
use crate::admin::access::Viewer;

/// A comment so often where nothing happens: whoever has gone is noticed, and no proxy in between ends the stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream lasts. A browser begins another one by itself.
pub(in crate::admin) const LIFETIME: Duration = Duration::from_secs(600);

/// Where one reader is.
pub(super) struct Stream {
    context: Arc<AdminContext>,
    /// Its place among the streams; given back with it.
    _place: Place,
    news: latest::Receiver<News>,
    viewer: Viewer,
    /// Those under which the viewer was let in, or let go on.
    settings: Arc<Settings>,
    tenant: Option<String>,
    /// The next event that it has not seen.
    next: u64,
    told: Option<Arc<Tick>>,
    end: Instant,
    begun: bool,
    /// Before its first event, of another process it may have missed some.
    stranger: bool,
}

impl Stream {
    pub(super) fn new(
        context: Arc<AdminContext>,
        place: Place,
        viewer: Viewer,
        tenant: Option<String>,
        last: Option<&str>,
    ) -> Self {
        let news = context.events.news.subscribe();
        let newest = news.borrow().next;
        let start_us = context.telemetry.clock.start_us();
        let seen = last.and_then(|id| {
            let (process, number) = id.split_once('-')?;
            (process.parse() == Ok(start_us)).then(|| number.parse::<u64>().ok())?
        });
        let stranger = last.is_some() && seen.is_none();
        let next = match seen {
            Some(number) => number.saturating_add(1),
            // What another process told cannot be gone on with; all that this one has told is news.
            None if stranger => 0,
            None => newest,
        };
        let (end, settings) = (Instant::now() + LIFETIME, context.state.settings());
        Self { context, _place: place, news, viewer, settings, tenant, next, told: None, end, begun: false, stranger }
    }

    /// Whether the viewer may go on: its token may have been taken away, or be another tenant's by now.
    fn may_go_on(&mut self) -> bool {
        let now = self.context.state.settings();
        if Arc::ptr_eq(&now, &self.settings) {
            return true;
        }
        self.settings = now;
        self.viewer.still_stands(&self.settings)
    }

    pub(super) fn into_body(self) -> Unfolded {
        Unfolded { next: Some(Box::pin(self.step())) }
    }

    /// What comes next; `None`: it is over.
    async fn step(mut self) -> Option<(Bytes, Self)> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            // A browser that was cut off comes back after this.
            text.push_str("retry: 2000\n\n");
            if std::mem::take(&mut self.stranger) {
                text.push_str("event: lost\ndata: {\"events\":null}\n\n");
            }
        }
        let mut beat = Instant::now() + HEARTBEAT;
        loop {
            if self.news.borrow_and_update().closed || Instant::now() >= self.end || !self.may_go_on() {
                return None;
            }
            self.gather(&mut text);
            if !text.is_empty() {
                return Some((text.into(), self));
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = tokio::time::sleep_until(beat.min(self.end)) => {
                    beat = Instant::now() + HEARTBEAT;
                    text.push_str(":\n\n");
                }
            }
        }
    }

    fn gather(&mut self, text: &mut String) {
        let batch = self.context.events.after(self.next, self.tenant.as_deref());
        self.next = batch.next;
        let start_us = self.context.telemetry.clock.start_us();
        if batch.lost > 0 {
            _ = write!(text, "event: lost\ndata: {{\"events\":{}}}\n\n", batch.lost);
        }
        for (number, kind, data) in batch.events {
            _ = write!(text, "id: {start_us}-{number}\nevent: {kind}\ndata: {data}\n\n");
        }
        let tick = self.context.events.tick();
        let is_new = self.told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, &tick));
        if is_new && tick.at_us > 0 {
            if let Some(data) = tick.shown(self.tenant.as_deref()) {
                _ = write!(text, "event: tick\ndata: {data}\n\n");
            }
            self.told = Some(tick);
        }
    }
}

type Step = Pin<Box<dyn Future<Output = Option<(Bytes, Stream)>> + Send>>;

/// A stream as a body: nothing is made before there is room for it.
pub(super) struct Unfolded {
    next: Option<Step>,
}

impl Body for Unfolded {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        match next.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.next = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((bytes, stream))) => {
                self.next = Some(Box::pin(stream.step()));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }
}
