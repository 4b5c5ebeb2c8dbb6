//! All clients of the engine: who they are, how many, and how long they work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::Error;

use super::dashboard::{self, Pages};
use super::session::{Session, Target};
use super::tally::Tally;
use super::{TENANTS, engine, limited};

/// Clients of each of the five tenants without a limit.
const WEB: usize = 12;
const WORKERS: usize = 16;
const WEBHOOKS: usize = 5;
const FOLLOWERS: usize = 4;
const SEARCHERS: usize = 1;
const EXPORTERS: usize = 1;
/// How long somebody looks at a page of the dashboard.
const PAGE_PAUSE: Duration = Duration::from_millis(1400);
/// Clients of the tenant with a limit.
const REPORTERS: usize = 5;

/// Client connections of the whole crew.
pub const CLIENTS: usize =
    (TENANTS.len() - 1) * (WEB + WORKERS + WEBHOOKS + FOLLOWERS + SEARCHERS + EXPORTERS) + REPORTERS;

/// When work ends.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    until: Instant,
}

impl Clock {
    /// Runs from now on for so long.
    pub fn lasting(time: Duration) -> Self {
        Self { until: Instant::now() + time }
    }

    /// Whether there is time left.
    pub fn runs(&self) -> bool {
        Instant::now() < self.until
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Sleeps for so long, give or take a quarter, but not past the end.
    pub async fn pause(&self, about: Duration) {
        let jittered = about.mul_f64(rand::random_range(0.75..1.25));
        tokio::time::sleep(jittered.min(self.left())).await;
    }
}

/// A crew that has connected and not begun to work.
#[derive(Debug)]
pub struct Crew {
    tally: Arc<Tally>,
    tenants: Vec<Posts>,
    reporters: Vec<Session>,
    /// How long it took until all were connected, one after the other.
    pub connecting: Duration,
}

/// One tenant's clients.
#[derive(Debug)]
struct Posts {
    tenant: usize,
    web: Vec<Session>,
    workers: Vec<Session>,
    webhooks: Vec<Session>,
    followers: Vec<Session>,
    searchers: Vec<Session>,
    exporters: Vec<Session>,
}

impl Crew {
    /// Connects everybody.
    pub async fn connect(target: &Target, tally: Arc<Tally>) -> Result<Self, Error> {
        let start = Instant::now();
        let mut tenants = Vec::new();
        for tenant in 1..TENANTS.len() {
            let open = |part, count| open_all(target, part, tenant, count, &tally);
            tenants.push(Posts {
                tenant,
                web: open("web", WEB).await?,
                workers: open("worker", WORKERS).await?,
                webhooks: open("webhook", WEBHOOKS).await?,
                followers: open("livelog", FOLLOWERS).await?,
                searchers: open("search", SEARCHERS).await?,
                exporters: open("export", EXPORTERS).await?,
            });
        }
        let reporters = open_all(target, "report", TENANTS.len(), REPORTERS, &tally).await?;
        Ok(Self { tally, tenants, reporters, connecting: start.elapsed() })
    }

    /// Everybody works for so long; returns when the last one has finished what they had begun.
    pub async fn work(self, time: Duration) -> Arc<Tally> {
        let clock = Clock::lasting(time);
        let mut everybody = JoinSet::new();
        for posts in self.tenants {
            posts.begin(clock, &mut everybody);
        }
        for (number, session) in self.reporters.into_iter().enumerate() {
            everybody.spawn(later(limited::report(session, number, clock)));
        }
        everybody.join_all().await;
        self.tally
    }
}

impl Posts {
    fn begin(self, clock: Clock, everybody: &mut JoinSet<()>) {
        let tenant = self.tenant;
        let web = self.web.into_iter().map(Arc::new).collect();
        everybody.spawn(later(dashboard::serve(web, Pages::Rows, PAGE_PAUSE, clock)));
        self.workers.into_iter().for_each(|session| drop(everybody.spawn(later(engine::work(session, clock)))));
        self.webhooks
            .into_iter()
            .for_each(|session| drop(everybody.spawn(later(engine::receive(session, tenant, clock)))));
        self.followers.into_iter().for_each(|session| drop(everybody.spawn(later(engine::follow(session, clock)))));
        self.searchers.into_iter().for_each(|session| drop(everybody.spawn(later(engine::search(session, clock)))));
        self.exporters.into_iter().for_each(|session| drop(everybody.spawn(later(engine::export(session, clock)))));
    }
}

/// Begins some time within the first second: two hundred clients that all begin at once measure only that.
async fn later(life: impl Future<Output = ()>) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..1000))).await;
    life.await;
}

/// Opens as many sessions of a part of the engine.
pub(super) async fn open_all(
    target: &Target,
    part: &str,
    tenant: usize,
    count: usize,
    tally: &Arc<Tally>,
) -> Result<Vec<Session>, Error> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(Session::open(target, part, tenant, Arc::clone(tally)).await?);
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_clients_of_at_least_five_tenants() {
        assert_eq!(CLIENTS, 200);
        assert!(TENANTS.len() >= 5);
    }
}
