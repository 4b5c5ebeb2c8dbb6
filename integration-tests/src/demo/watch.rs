//! What the server and the kernel say while traffic runs: server connections from `pg_stat_activity`, memory from
//! `/proc`. A thread of its own, so that looking does not slow the clients.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::RawClient;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Adding up a process' memory costs the kernel a walk over its pages: not too often.
const WEIGH_EVERY: Duration = Duration::from_secs(2);

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Times that `pg_stat_activity` was read.
    pub looks: u64,
    /// Server connections at the last look, and the most at any.
    pub connections: usize,
    /// The most server connections at any look.
    pub most_connections: usize,
    /// The processes behind them at the last look.
    pub pids: BTreeSet<i32>,
    /// Most memory of all server connections' processes together, in KiB: proportional set size, in which a page that
    /// several processes share counts once. `None` where the kernel does not tell.
    pub most_server_kib: Option<u64>,
    /// Most memory of pgweir, in KiB, measured likewise.
    pub most_proxy_kib: Option<u64>,
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Begins to look at all client connections of `database` but its own (`client`, logged in directly) and those of
    /// the processes in `others`, and at the process of pgweir if it takes part.
    pub fn begin(client: RawClient, database: &str, proxy: Option<u32>, others: BTreeSet<i32>) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let query = format!(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = '{database}' \
             AND pid <> pg_backend_pid()"
        );
        let thread = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let subject = Subject { query, proxy, others };
            std::thread::spawn(move || look(client, &subject, &seen, &stop))
        };
        Self { seen, stop, thread }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks once more and ends.
    pub fn end(self) -> Outcome<Seen> {
        let looks = self.seen().looks;
        while self.seen().looks == looks && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stop.store(true, Ordering::Relaxed);
        let seen = Arc::clone(&self.seen);
        self.thread.join().map_err(|_| "the server stopped answering while it was watched")?;
        Ok(seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What is looked at.
#[derive(Debug)]
struct Subject {
    query: String,
    proxy: Option<u32>,
    others: BTreeSet<i32>,
}

fn look(mut client: RawClient, subject: &Subject, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut weighed: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let rows = client.query(&subject.query).ok().rows();
        let pids = rows.iter().filter_map(|row| row.first()?.parse().ok());
        let pids: BTreeSet<i32> = pids.filter(|pid| !subject.others.contains(pid)).collect();
        let due = weighed.is_none_or(|last| last.elapsed() >= WEIGH_EVERY);
        let server = due.then(|| pids.iter().map(|pid| proportional_kib(*pid)).sum()).flatten();
        let own = due.then(|| subject.proxy.and_then(|pid| proportional_kib(i32::try_from(pid).ok()?))).flatten();
        if due {
            weighed = Some(Instant::now());
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.looks += 1;
        seen.connections = pids.len();
        seen.most_connections = seen.most_connections.max(pids.len());
        seen.pids = pids;
        seen.most_server_kib = seen.most_server_kib.max(server);
        seen.most_proxy_kib = seen.most_proxy_kib.max(own);
        drop(seen);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The proportional set size of a process; nothing for one that has just gone, `None` where it may not be read.
fn proportional_kib(pid: i32) -> Option<u64> {
    match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => pss_in(&text),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(_) => Some(0),
    }
}

fn pss_in(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_read_from_its_own_line() {
        let rollup = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 9000 kB\nPss: 1234 kB\nPss_Dirty: 99 kB\n";
        assert_eq!(pss_in(rollup), Some(1234));
        assert_eq!(pss_in("Rss: 9000 kB\n"), None);
    }

    #[test]
    fn this_process_has_a_size_and_a_gone_one_none() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(proportional_kib(me).is_some_and(|kib| kib > 0));
        assert_eq!(proportional_kib(i32::MAX), Some(0));
    }
}
