//! Reloads of the configuration: who asks for one, and how they went.

use std::time::{Duration, SystemTime};

use config::{Change, Changes, Settings};
use tokio::sync::{mpsc, oneshot};

use crate::source::{Look, Source};

/// Changes of a reload that are told one by one in the log.
const MAX_TOLD: usize = 20;

/// Time between two looks at the files of the configuration.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Reloads that may wait for their turn.
const MAX_WAITING: usize = 16;

/// What has changed, or why nothing has: a line for each mistake.
pub type Outcome = Result<Changes, String>;

/// Asks for a reload; where the answer goes, if anybody waits for it.
pub type Order = Option<oneshot::Sender<Outcome>>;

/// The way to whoever can read the configuration again.
#[derive(Debug, Clone)]
pub struct Reloader(mpsc::Sender<Order>);

impl Reloader {
    /// With the end where its orders come out.
    pub fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders_in, orders) = mpsc::channel(MAX_WAITING);
        (Self(orders_in), orders)
    }

    /// Has the configuration read again, and waits for what comes of it. `None`: nobody does that, as when the proxy ends,
    /// or too many wait for it.
    pub async fn reload(&self) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Some(answer)).ok()?;
        answered.await.ok()
    }

    /// Has it read again when its files have changed, as long as the settings in force want that.
    pub(super) async fn watch(self, source: Source, settings: impl Fn() -> std::sync::Arc<Settings>) {
        let mut stillness = Stillness::default();
        loop {
            tokio::time::sleep(INTERVAL).await;
            if !settings().reload_on_change {
                stillness = Stillness::default();
                continue;
            }
            let source = source.clone();
            // A file system may take its time, and signals are heard on this thread.
            let Ok(now) = tokio::task::spawn_blocking(move || source.changed()).await else { return };
            if stillness.is_due(now) && self.0.send(None).await.is_err() {
                return;
            }
        }
    }
}

/// Whether files have changed and are left alone since.
#[derive(Debug, Default)]
struct Stillness {
    /// What they were at the last look, if that was not what has been read.
    before: Option<Look>,
}

impl Stillness {
    /// At each look, with what differs from what has been read, if anything does.
    fn is_due(&mut self, now: Option<Look>) -> bool {
        if now.is_some() && now == self.before {
            self.before = None;
            return true;
        }
        self.before = now;
        false
    }
}

/// Logs what has changed: some of it one by one, the rest as a number.
pub(crate) fn tell(changes: &Changes) {
    let restart = changes.restart.iter().map(|change| (change, true));
    let all = restart.chain(changes.at_once.iter().map(|change| (change, false)));
    for (Change { key, values }, needs_restart) in all.take(MAX_TOLD) {
        let (old, new) = values.as_ref().map_or((None, None), |values| (values.old.as_deref(), values.new.as_deref()));
        match values {
            Some(_) => tracing::info!(
                key,
                old = old.unwrap_or("not there"),
                new = new.unwrap_or("not there"),
                needs_restart,
                "setting changed"
            ),
            None => tracing::info!(key, needs_restart, "setting changed; its values are not shown"),
        }
    }
    let more = (changes.restart.len() + changes.at_once.len()).saturating_sub(MAX_TOLD);
    if more > 0 {
        tracing::info!(more, "further settings changed");
    }
}

/// Some of the keys, for one line of the log.
pub(crate) fn named(changes: &[Change]) -> String {
    let mut keys: Vec<&str> = changes.iter().take(MAX_TOLD).map(|change| change.key.as_str()).collect();
    let more = changes.len().saturating_sub(MAX_TOLD);
    let rest = format!("and {more} more");
    if more > 0 {
        keys.push(&rest);
    }
    keys.join(", ")
}

/// What became of the reloads so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Reloads that were put in force.
    pub done: u64,
    /// Reloads that changed nothing because of a mistake.
    pub refused: u64,
    /// When the last one was tried; `None`: none was.
    pub last: Option<SystemTime>,
    /// When the settings in force were read; `None`: at the start.
    pub last_done: Option<SystemTime>,
    /// Why the last one changed nothing: a line for each mistake. `None`: it did.
    pub error: Option<String>,
    /// Keys that have other values in the file now, and need a restart.
    pub pending: Vec<String>,
}

impl Reloads {
    /// New settings are in force, but for the keys that need a restart.
    pub fn succeeded(&mut self, now: SystemTime, pending: &[String]) {
        self.done += 1;
        self.last = Some(now);
        self.last_done = Some(now);
        self.error = None;
        self.pending = pending.to_vec();
    }

    /// Nothing has changed.
    pub fn refused(&mut self, now: SystemTime, why: &str) {
        self.refused += 1;
        self.last = Some(now);
        self.error = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_when_they_have_changed_and_stayed_the_same_for_one_look() {
        let folder = std::env::temp_dir().join(format!("pgweir-stillness-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("pgweir.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("[databases.a]\nupstream = 'postgres://h/a'\n");
        let source = Source { file: Some(file.clone()), ..Source::default() };
        source.load().unwrap();
        let mut stillness = Stillness::default();
        assert!(!stillness.is_due(source.changed()), "nothing has changed");
        write("half of");
        assert!(!stillness.is_due(source.changed()), "it may be being written");
        write("half of it");
        assert!(!stillness.is_due(source.changed()), "as it was");
        assert!(stillness.is_due(source.changed()));
        // A mistake is told once, not every two seconds.
        source.load().unwrap_err();
        assert!(!stillness.is_due(source.changed()) && !stillness.is_due(source.changed()));
        write("");
        assert!(!stillness.is_due(source.changed()));
        std::fs::remove_file(&file).unwrap();
        assert!(!stillness.is_due(source.changed()), "gone is a change too");
        assert!(stillness.is_due(source.changed()));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn who_asks_is_answered_and_nobody_waits_for_one_who_is_gone() {
        let (reloader, mut orders) = Reloader::new();
        let asked = tokio::spawn({
            let reloader = reloader.clone();
            async move { reloader.reload().await }
        });
        let order = orders.recv().await.unwrap().unwrap();
        order.send(Err("a mistake".to_owned())).unwrap();
        assert_eq!(asked.await.unwrap(), Some(Err("a mistake".to_owned())));
        drop(orders);
        assert_eq!(reloader.reload().await, None);
    }

    #[test]
    fn a_line_names_twenty_keys_and_counts_the_rest() {
        let change = |number| Change { key: format!("k{number}"), values: None };
        let changes: Vec<Change> = (0..22).map(change).collect();
        assert_eq!(named(&changes[..2]), "k0, k1");
        assert!(named(&changes).ends_with("k19, and 2 more"), "{}", named(&changes));
    }
}
