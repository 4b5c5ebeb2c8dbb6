//! The life of one listener, on the control thread.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::desk::{Desk, Letter};
use super::link::{Dialling, Link, Said, dialling};
use super::{Ask, Asks, LINGER, Listener, lock};
use crate::shared::Shared;
use crate::telemetry::WorkerTelemetry;
use crate::worker::Mail;

/// Its way to the server.
enum Line {
    /// None, and the next attempt not before this.
    Down(Instant),
    /// One is being made.
    Dialling(Dialling),
    /// It listens.
    Up(Link),
}

/// What a listener waits for.
enum Event {
    Asked(Ask),
    Dialled(Result<Link, String>),
    Received(std::io::Result<()>),
    /// Its server is out of use.
    Moved,
    Time,
}

/// One listener.
struct Task {
    shared: Arc<Shared>,
    telemetry: Rc<WorkerTelemetry>,
    listener: Arc<Listener>,
    desk: Desk,
    line: Line,
    /// Attempts to connect that failed one after the other.
    failures: u32,
    /// Since when nobody needs it.
    idle_since: Option<Instant>,
    /// Clients and channels as counted in the telemetry.
    counted: (usize, usize),
}

/// Listens until nobody has needed it for `LINGER`.
pub async fn serve(shared: Arc<Shared>, telemetry: Rc<WorkerTelemetry>, listener: Arc<Listener>, asks: Asks) {
    let now = Instant::now();
    let mut task = Task {
        shared,
        telemetry,
        listener,
        desk: Desk::new(now),
        line: Line::Down(now),
        failures: 0,
        idle_since: Some(now),
        counted: (0, 0),
    };
    let Asks(mut asks) = asks;
    loop {
        let rest = task.rest(Instant::now());
        let event = tokio::select! {
            Some(ask) = asks.recv() => Event::Asked(ask),
            event = progress(&mut task.line) => event,
            () = task.listener.moved.notified() => Event::Moved,
            () = tokio::time::sleep(rest) => Event::Time,
        };
        let now = Instant::now();
        match event {
            Event::Asked(ask) => task.desk.ask(ask, now),
            Event::Dialled(dialled) => task.dialled(dialled, now),
            Event::Received(received) => task.received(received, now),
            Event::Moved if matches!(task.line, Line::Up(_)) => {
                task.lose("its name stands for another address now", now);
            }
            Event::Moved | Event::Time => {}
        }
        // What was asked together is answered together.
        while let Ok(ask) = asks.try_recv() {
            task.desk.ask(ask, now);
        }
        if task.go_on(now).await {
            break;
        }
    }
    if let Line::Up(link) = std::mem::replace(&mut task.line, Line::Down(Instant::now())) {
        task.telemetry.load().listen.connections.down();
        link.close().await;
    }
}

/// What comes next by itself. Nothing is lost when it is dropped.
async fn progress(line: &mut Line) -> Event {
    match line {
        Line::Down(_) => std::future::pending().await,
        Line::Dialling(dialling) => Event::Dialled(dialling.await),
        Line::Up(link) => Event::Received(link.fill().await),
    }
}

impl Task {
    /// Does what is due; `true`: it is of no use any more.
    async fn go_on(&mut self, now: Instant) -> bool {
        self.desk.expire(now);
        if self.desk.is_overdue(now) {
            self.lose("the server did not answer in time", now);
        }
        if let Line::Down(again) = self.line
            && again <= now
            && let Some(pool) = self.desk.pool(self.failures as usize)
        {
            self.line = Line::Dialling(dialling(&self.shared, pool, &self.listener.place));
        }
        if let Line::Up(link) = &mut self.line
            && let Some(sql) = self.desk.next_query(now)
            && let Err(error) = link.send(&sql).await
        {
            self.lose(&error.to_string(), now);
        }
        self.tell();
        self.show();
        if self.desk.is_needed() {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        now.saturating_duration_since(since) >= LINGER && self.shared.listeners.retire(&self.listener)
    }

    /// How long it may sleep.
    fn rest(&self, now: Instant) -> Duration {
        let dial = match self.line {
            Line::Down(again) if self.desk.is_needed() => again.saturating_duration_since(now),
            _ => LINGER,
        };
        let unused = self.idle_since.map_or(LINGER, |since| (since + LINGER).saturating_duration_since(now));
        // Never a busy loop, whatever the clocks say.
        self.desk.rest(now).min(dial).min(unused).max(Duration::from_millis(1))
    }

    fn dialled(&mut self, dialled: Result<Link, String>, now: Instant) {
        let place = &self.listener.place;
        match dialled {
            Ok(link) => {
                tracing::info!(server = place.address(), database = place.database, "listening");
                lock(&self.listener.state).backend_pid = Some(link.process);
                *lock(&self.listener.server) = Some(link.server.clone());
                self.telemetry.load().listen.connections.up();
                self.line = Line::Up(link);
                self.desk.connected(now);
            }
            Err(why) => {
                tracing::warn!(server = place.address(), database = place.database, why, "cannot listen");
                self.line = Line::Down(now + self.pause());
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// How long to wait after a failed attempt: doubling, with jitter.
    fn pause(&self) -> Duration {
        let Some(pool) = self.desk.pool(self.failures as usize) else { return Duration::ZERO };
        let settings = pool.settings();
        let doubled = settings.connect_backoff.saturating_mul(1 << self.failures.min(16));
        doubled.min(settings.connect_backoff_max).mul_f64(rand::rng().random_range(0.5..1.0))
    }

    fn received(&mut self, received: std::io::Result<()>, now: Instant) {
        let Line::Up(link) = &mut self.line else { return };
        let (desk, load) = (&mut self.desk, &self.telemetry.load().listen);
        let (senders, server) = (&self.shared.listeners.senders, link.server.clone());
        let (mut here, mut refused) = (0, None);
        let (mut answered, mut fits) = (false, true);
        let drained = received.and_then(|()| {
            link.drain(|said| match said {
                Said::Notified(mut notification) => {
                    here += 1;
                    notification.process = senders.told(&server.address, notification.process);
                    load.told.add(desk.notified(&notification, now) as u64);
                }
                Said::Error(code, message) => {
                    desk.failed(code, &message);
                    refused = Some(message);
                }
                Said::Ready => {
                    answered = true;
                    fits &= desk.answered(now);
                }
            })
        });
        load.received.add(here);
        self.listener.notifications.fetch_add(here, Ordering::Relaxed);
        match drained {
            Err(error) => self.lose(&refused.unwrap_or_else(|| error.to_string()), now),
            // It refuses the channels of the connection that was lost, as a standby does.
            Ok(()) if !fits => self.lose(&refused.unwrap_or_default(), now),
            Ok(()) if answered => self.failures = 0,
            Ok(()) => {}
        }
    }

    /// The connection is of no use any more.
    fn lose(&mut self, why: &str, now: Instant) {
        let place = &self.listener.place;
        tracing::warn!(server = place.address(), database = place.database, why, "no longer listening");
        self.line = Line::Down(now + if self.failures > 0 { self.pause() } else { Duration::ZERO });
        self.failures = self.failures.saturating_add(1);
        self.telemetry.load().listen.connections.down();
        self.telemetry.load().listen.losses.increment();
        self.listener.losses.fetch_add(1, Ordering::Relaxed);
        lock(&self.listener.state).backend_pid = None;
        *lock(&self.listener.server) = None;
        self.desk.lost();
    }

    fn tell(&mut self) {
        // What came together is told together.
        let mut letters: Vec<Vec<_>> = Vec::new();
        letters.resize_with(self.shared.workers.len(), Vec::new);
        for Letter { worker, clients, news } in self.desk.letters() {
            if let Some(letters) = letters.get_mut(worker) {
                letters.push((clients, news));
            }
        }
        for (worker, letters) in letters.into_iter().enumerate().filter(|(_, letters)| !letters.is_empty()) {
            self.shared.send(worker, Mail::News(letters));
        }
    }

    /// Brings what operators see up to date.
    fn show(&mut self) {
        let (clients, channels) = self.desk.size();
        if (clients, channels) != self.counted {
            let load = &self.telemetry.load().listen;
            load.clients.add(clients as i64 - self.counted.0 as i64);
            load.channels.add(channels as i64 - self.counted.1 as i64);
            self.counted = (clients, channels);
        }
        let mut state = lock(&self.listener.state);
        (state.clients, state.channels) = (clients, channels);
        state.state = match self.line {
            Line::Down(_) => "waiting",
            Line::Dialling(_) => "dialling",
            Line::Up(_) => "listening",
        };
    }
}
