//! POOLS, DATABASES, USERS.

use std::time::Duration;

use config::{Database, PoolMode, Settings};

use super::super::value::{Row, Value, text};
use super::seconds;

/// One pool at one moment.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct PoolFacts {
    pub(in super::super) database: String,
    pub(in super::super) user: String,
    pub(in super::super) clients: u64,
    /// Of them, those that wait.
    pub(in super::super) waiting: u64,
    /// How long the first of those has waited.
    pub(in super::super) waited: Duration,
    pub(in super::super) active: u64,
    pub(in super::super) idle: u64,
    pub(in super::super) dialling: u64,
    pub(in super::super) mode: Option<PoolMode>,
    pub(in super::super) balance: Option<&'static str>,
}

/// POOLS.
pub(in super::super) fn pools(mut all: Vec<PoolFacts>) -> Vec<Row> {
    all.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
    let none = || Value::Number(0);
    let row = |pool: PoolFacts| {
        let (waited, waited_us) = seconds(u64::try_from(pool.waited.as_micros()).unwrap_or(u64::MAX));
        vec![
            pool.database.into(),
            pool.user.into(),
            pool.clients.saturating_sub(pool.waiting).into(),
            pool.waiting.into(),
            none(),
            none(),
            pool.active.into(),
            none(),
            none(),
            pool.idle.into(),
            none(),
            none(),
            pool.dialling.into(),
            waited.into(),
            waited_us.into(),
            // PgBouncer's own pool has a mode too.
            pool.mode.map_or("statement", mode).into(),
            pool.balance.into(),
        ]
    };
    all.into_iter().map(row).collect()
}

/// What there is of a database now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct DatabaseFacts {
    pub(in super::super) upstreams: u64,
    pub(in super::super) clients: u64,
    pub(in super::super) paused: bool,
    pub(in super::super) disabled: bool,
}

/// DATABASES: these, and the console, which is listened for on this port.
pub(in super::super) fn databases<'a>(
    settings: &Settings,
    all: impl Iterator<Item = (&'a str, DatabaseFacts)>,
    console: (u64, u16),
) -> Vec<Row> {
    let mut rows: Vec<Row> =
        all.filter_map(|(name, facts)| Some(database(name, settings.database(name)?, facts))).collect();
    rows.push(console_database(console));
    rows
}

fn database(name: &str, known: &Database, facts: DatabaseFacts) -> Row {
    let (upstream, pool) = (&known.upstream, &known.pool);
    let hosts: Vec<&str> = upstream.hosts.iter().map(|host| host.name.as_str()).collect();
    vec![
        text(name),
        hosts.join(",").into(),
        upstream.hosts.first().map(|host| host.port).into(),
        text(upstream.database.as_deref().unwrap_or(name)),
        upstream.user.clone().into(),
        pool.size.into(),
        pool.min_size.into(),
        pool.reserve_size.into(),
        pool.lifetime.as_secs().into(),
        mode(pool.mode).into(),
        balance(known).into(),
        known.limits.max_upstreams.into(),
        facts.upstreams.into(),
        known.limits.max_clients.into(),
        facts.clients.into(),
        facts.paused.into(),
        facts.disabled.into(),
    ]
}

/// As PgBouncer shows its own.
fn console_database((clients, port): (u64, u16)) -> Row {
    let none = || Value::Number(0);
    vec![
        "pgbouncer".into(),
        Value::Null,
        port.into(),
        "pgbouncer".into(),
        "pgbouncer".into(),
        none(),
        none(),
        none(),
        none(),
        "statement".into(),
        Value::Null,
        none(),
        none(),
        super::super::MAX_CONNECTIONS.into(),
        clients.into(),
        none(),
        none(),
    ]
}

/// How several hosts share what is asked of them; `None`: there is one.
pub(in super::super) fn balance(known: &Database) -> Option<&'static str> {
    let several = known.upstream.hosts.len() > 1;
    several.then_some(if known.upstream.load_balance { "random" } else { "disable" })
}

pub(super) fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

/// What there is of a user now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct UserFacts {
    pub(in super::super) upstreams: u64,
    pub(in super::super) clients: u64,
}

/// USERS.
pub(in super::super) fn users<'a>(settings: &Settings, all: impl Iterator<Item = (&'a str, UserFacts)>) -> Vec<Row> {
    let row = |(name, facts): (&str, UserFacts)| {
        let limits = settings.user_limits(name);
        vec![
            text(name),
            limits.pool_size.map(|size| size.to_string()).unwrap_or_default().into(),
            "".into(),
            Value::Null,
            limits.max_upstreams.into(),
            facts.upstreams.into(),
            limits.max_clients.into(),
            facts.clients.into(),
        ]
    };
    all.map(row).collect()
}

#[cfg(test)]
mod tests {
    use config::{NoSources, Overrides};

    use super::*;

    fn settings(toml: &str) -> Settings {
        Settings::from_toml(toml, &Overrides::default(), &NoSources).unwrap()
    }

    #[test]
    fn clients_that_wait_are_not_active_and_the_first_of_them_tells_the_wait() {
        let waited = Duration::from_micros(3_000_042);
        let pool = PoolFacts {
            database: "shop".into(),
            user: "app".into(),
            clients: 5,
            waiting: 2,
            waited,
            active: 3,
            idle: 1,
            dialling: 4,
            mode: Some(PoolMode::Transaction),
            balance: None,
        };
        let other = PoolFacts { database: "a".into(), ..PoolFacts::default() };
        let rows = pools(vec![pool, other]);
        let shown: Vec<String> = rows[1].iter().map(|value| format!("{value:?}")).collect();
        let numbers: Vec<u64> =
            rows[1].iter().filter_map(|value| if let Value::Number(n) = value { Some(*n) } else { None }).collect();
        assert_eq!(numbers, [3, 2, 0, 0, 3, 0, 0, 1, 0, 0, 4, 3, 42], "{shown:?}");
        assert_eq!((&rows[0][0], &rows[1][15]), (&text("a"), &text("transaction")));
    }

    #[test]
    fn databases_say_where_they_lead() {
        let settings = settings(
            "[databases.shop]\nupstream = 'postgres://owner:x@a:1,b:2/real'\nsize = 7\nmin_size = 2\nlifetime = '30s'\n\
             max_clients = 9\nmode = 'session'\n[databases.\"*\"]\nupstream = 'postgres://c:3'\n",
        );
        let facts = DatabaseFacts { upstreams: 4, clients: 5, paused: true, disabled: false };
        let rows = databases(&settings, [("shop", facts), ("other", facts)].into_iter(), (2, 6432));
        let shop = &rows[0];
        assert_eq!(shop[1..5], [text("a,b"), 1u16.into(), text("real"), text("owner")]);
        assert_eq!(
            shop[5..11],
            [7u64.into(), 2u64.into(), 0u64.into(), 30u64.into(), text("session"), text("disable")]
        );
        assert_eq!(shop[11..], [0u64, 4, 9, 5, 1, 0].map(Value::from));
        assert_eq!((&rows[1][3], &rows[1][4], &rows[1][10]), (&text("other"), &Value::Null, &Value::Null));
        assert_eq!((&rows[2][0], &rows[2][14], &rows[2][2]), (&text("pgbouncer"), &2u64.into(), &6432u64.into()));
    }

    #[test]
    fn users_have_their_limits() {
        let settings = settings(
            "[databases.shop]\nupstream = 'postgres://a/b'\n[users.app]\npassword = 'x'\npool_size = 3\nmax_clients = 8\nmax_upstreams = 6\n",
        );
        let facts = UserFacts { upstreams: 1, clients: 2 };
        let rows = users(&settings, [("app", facts), ("bob", UserFacts::default())].into_iter());
        assert_eq!(
            rows[0],
            [text("app"), text("3"), text(""), Value::Null, 6u64.into(), 1u64.into(), 8u64.into(), 2u64.into()]
        );
        assert_eq!(rows[1][1], text(""));
    }
}
