//! What the programs of this package share. Each takes a connection URL and prints one line for each check that holds;
//! the first that does not ends it with status 101 and says why. Nothing in them depends on whether a proxy is in
//! between.
#![forbid(unsafe_code)]

use std::future::Future;
use std::time::{Duration, Instant};

/// More than a pool before the server may open connections to it.
pub const CLIENTS: usize = 12;
/// Transactions of each client where many run at once.
pub const TURNS: i32 = 10;
/// What each client asks for again and again: its own tenant, whatever the others set.
pub const SETTING: &str = "select current_setting('app.tenant_id')";
/// Makes this client's tenant known to its connection.
pub const SET_TENANT: &str = "select set_config('app.tenant_id', $1, false)";

/// A statement that only one client prepares, and long enough for the others to take its server away meanwhile.
pub fn own_statement(tenant: &str) -> String {
    format!("select $1::int4, pg_sleep(0.002)::text /* {tenant} */")
}

/// How many statements with `marker` this server process holds, and how often it ran them.
pub fn times_run(marker: &str) -> String {
    format!(
        "select count(*)::int4, coalesce(sum(generic_plans + custom_plans), 0)::int4 from held_statements \
         where statement like '%{marker}%' and statement not like '%held_statements%'"
    )
}

/// The connection URL: the program's one argument.
pub fn url() -> String {
    std::env::args().nth(1).expect("usage: PROGRAM postgres://…")
}

/// Awaits a check and says that it holds.
pub async fn holds(name: &str, check: impl Future<Output = ()>) {
    let limit = Duration::from_secs(60);
    assert!(tokio::time::timeout(limit, check).await.is_ok(), "FAILED: {name} took more than {limit:?}");
    println!("holds: {name}");
}

/// Awaits something that must not take as long as the query in it would.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
    done
}
