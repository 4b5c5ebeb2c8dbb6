//! What idle clients cost: memory of the pooler for each, and processor time while nothing happens.

use std::any::Any;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Outcome;
use super::machine::processor_time;
use super::papers::Papers;
use super::ways::Way;
use crate::RawClient;
use crate::frontend::{self, PROTOCOL_3_0};
use crate::secure::{asked, exchange, speaking};

/// Clients that are held at once.
pub const CLIENTS: usize = 5_000;
/// For so long everybody rests before memory is read: what logins leave to tidy up is not the cost of being idle.
const REST: Duration = Duration::from_secs(10);
/// For so long processor time is counted then: longer than the pauses between whatever a pooler does by itself.
const WATCH: Duration = Duration::from_secs(6);

/// What idle clients have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// Nothing: they have run a query.
    Nothing,
    /// A named prepared statement each, the same for all.
    Statement,
    /// A connection by TLS, over which they have run a query.
    Tls,
}

impl Held {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Statement, Self::Tls];

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "plain",
            Self::Statement => "with one named statement",
            Self::Tls => "with TLS",
        }
    }
}

/// What was seen of one way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Idle {
    /// Resident memory for each client, in bytes.
    pub bytes: f64,
    /// Share of one processor while nothing happens.
    pub busy: f64,
}

/// Connects [`CLIENTS`] and looks at the pooler; `None`: there is none.
///
/// Memory that an earlier load has left behind would be used for these clients first: measure in a fresh process.
pub fn measure(way: &Way, held: Held, papers: &Papers) -> Outcome<Option<Idle>> {
    let Some(pooler) = way.pooler() else { return Ok(None) };
    // What the first client brings with it is not a client's.
    let first = client(way, held, papers)?;
    std::thread::sleep(REST);
    let before = pooler.resident_kib();
    let clients = (0..CLIENTS).map(|_| client(way, held, papers)).collect::<Outcome<Vec<_>>>()?;
    std::thread::sleep(REST);
    let after = pooler.resident_kib();
    let worked = processor_time(pooler.pid());
    std::thread::sleep(WATCH);
    let worked = processor_time(pooler.pid()).saturating_sub(worked);
    drop((first, clients));
    Ok(Some(Idle {
        bytes: 1024.0 * after.saturating_sub(before) as f64 / CLIENTS as f64,
        busy: worked.as_secs_f64() / WATCH.as_secs_f64(),
    }))
}

/// A client to be held: whatever it is, nobody touches it again.
fn client(way: &Way, held: Held, papers: &Papers) -> Outcome<Box<dyn Any>> {
    let (database, user) = way.login();
    let parameters = [("user", user), ("database", database)];
    if held == Held::Tls {
        let mut client = speaking(papers.clients(), asked(way.address()));
        let queried = [frontend::startup(PROTOCOL_3_0, &parameters), frontend::query("SELECT 1")];
        for said in queried {
            exchange(&mut client, &said, b'Z').map_err(|error| format!("{} with TLS: {error}", way.name))?;
        }
        return Ok(Box::new(client));
    }
    let mut client =
        RawClient::try_login(way.address(), &parameters, "").map_err(|fields| format!("{}: {fields:?}", way.name))?;
    if held == Held::Statement {
        let sql = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";
        let prepare = [frontend::parse("by_id", sql, &[23]), frontend::sync()];
        client.say(prepare.concat()).send().reply();
        client.bind("by_id", &["1"]).execute().sync().send().reply();
    } else {
        client.query("SELECT 1");
    }
    Ok(Box::new(client))
}

/// A process may open few files until it asks for more, and what it starts then may open as many: to be called before the
/// poolers are started.
pub fn allow_files() -> Outcome<()> {
    let files = CLIENTS as u64 + 500;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    let maximum = now.maximum.map(|most| most.max(files));
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum })
        .map_err(|error| format!("{files} open files are more than the system allows: {error}").into())
}
