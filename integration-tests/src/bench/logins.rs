//! Logins by SCRAM at a fixed pace, beside whatever else a way carries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Outcome;
use super::ways::{PASSWORD, Way};
use crate::RawClient;

/// Logins a minute.
pub const PACE: u32 = 10_000;
/// Threads that take turns: one alone would fall behind whenever the machine lets it wait.
const THREADS: u32 = 4;

/// Does `work` while clients log in and leave again, [`PACE`] times a minute; gives how many a minute did.
pub fn among_logins<T>(way: &Way, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, f64)> {
    let (begun, stop) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stop = &stop;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || take_turns(thread, way, begun, stop))).collect();
        let done = {
            let _ends = Ends(stop);
            work()
        };
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        let mut logins = 0;
        for thread in threads {
            logins += thread.join().map_err(|_| "a client could not log in")??;
        }
        Ok((done?, f64::from(logins) / minutes))
    })
}

/// Tells the threads to end, even if the work has panicked: they would be waited for in vain.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Logs in at each turn of a thread; gives how often. Who is late does not wait, so that the pace is kept.
fn take_turns(thread: u32, way: &Way, begun: Instant, stop: &AtomicBool) -> Outcome<u32> {
    let (database, user) = way.login();
    let mut logins = 0;
    loop {
        std::thread::sleep((begun + turn(thread, logins)).saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return Ok(logins);
        }
        RawClient::try_login(way.address(), &[("user", user), ("database", database)], PASSWORD)
            .map_err(|fields| format!("a client could not log in: {fields:?}"))?
            .terminate();
        logins += 1;
    }
}

/// When a thread's next turn is, after so many: the threads' turns lie evenly between each other.
fn turn(thread: u32, taken: u32) -> Duration {
    Duration::from_secs(60) * (taken * THREADS + thread) / PACE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_as_many_as_promised_and_lie_evenly() {
        let mut turns: Vec<Duration> =
            (0..THREADS).flat_map(|thread| (0..PACE / THREADS).map(move |taken| turn(thread, taken))).collect();
        turns.sort();
        assert_eq!(turns.len(), PACE as usize);
        assert!(turns.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(6)));
        assert!(turns.last().unwrap() < &Duration::from_secs(60));
    }
}
