//! Asks the admin port, on a thread of its own: a proxy that answers slowly holds no key up.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::Message;
use super::model::{self, Snapshot, Tab};
use crate::cli::http::Admin;

/// What is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// This list at once, and from now on.
    Look(Tab),
    /// How a statement has run.
    History(String),
}

/// The thread's other end. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Fetcher(Sender<Asked>);

impl Fetcher {
    /// Begins with a list.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(admin: Admin, interval: Duration, tab: Tab, out: &Sender<Message>) -> io::Result<Self> {
        let (asks, asked) = channel();
        let out = out.clone();
        let work = move || serve(&admin, interval, tab, &asked, &out);
        std::thread::Builder::new().name("fetcher".to_owned()).spawn(work)?;
        Ok(Self(asks))
    }

    /// Asks.
    pub(super) fn ask(&self, what: Asked) {
        // Without the thread there is nothing new, which the screen says already.
        _ = self.0.send(what);
    }
}

fn serve(admin: &Admin, interval: Duration, mut tab: Tab, asked: &Receiver<Asked>, out: &Sender<Message>) {
    let mut due = Instant::now();
    loop {
        match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Asked::Look(wanted)) => (tab, due) = (wanted, Instant::now()),
            Ok(Asked::History(fingerprint)) => {
                let told = model::history(admin, Some(&fingerprint)).map_err(|trouble| trouble.to_string());
                if out.send(Message::History(fingerprint, told)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let told = Snapshot::take(admin, tab).map(Box::new).map_err(|trouble| trouble.to_string());
                if out.send(Message::Looked(tab, told)).is_err() {
                    return;
                }
                due = Instant::now() + interval;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
