//! Settings follow their client, and reach nobody else.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use config::{LimitKey, Limits, Origin, TenantRule};
use integration_tests::{Cluster, RawClient, Site, everywhere, everywhere_transactional, frontend};

fn show(client: &mut RawClient, name: &str) -> String {
    client.query(format!("show {name}")).value()
}

#[test]
fn a_setting_stays_with_the_client_that_made_it() {
    everywhere_transactional(|site| {
        let (mut first, mut second) = (site.client(), site.client());
        for (name, value) in [("statement_timeout", "4321ms"), ("search_path", "one"), ("timezone", "Asia/Tokyo")] {
            let default = show(&mut second, name);
            first.query(format!("set {name} to '{value}'")).ok();
            assert_eq!((show(&mut first, name), show(&mut second, name)), (value.to_owned(), default), "{name}");
        }
    });
}

#[test]
fn a_rollback_takes_settings_back() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("set lock_timeout to '1111ms'").ok();
        client.query("begin").ok();
        client.query("set lock_timeout to '2222ms'").ok();
        assert_eq!(show(&mut client, "lock_timeout"), "2222ms");
        client.query("rollback").ok();
        assert_eq!(
            (show(&mut client, "lock_timeout"), show(&mut other, "lock_timeout")),
            ("1111ms".into(), "0".into())
        );
        client.query("begin; set lock_timeout to '3333ms'; commit").ok();
        assert_eq!(
            (show(&mut client, "lock_timeout"), show(&mut other, "lock_timeout")),
            ("3333ms".into(), "0".into())
        );
    });
}

/// `DateStyle` has two parts, and a SET that says one of them leaves the other as it was: for its client, and on whatever
/// server that comes to next.
#[test]
fn one_part_of_the_date_style_leaves_the_other_as_it_was() {
    everywhere_transactional(|site| {
        let (mut first, mut second) = (site.client(), site.client());
        first.query("set DateStyle = 'ISO, DMY'").ok();
        first.query("set DateStyle = 'Postgres'").ok();
        second.query("set DateStyle to 'Postgres'").ok();
        for _ in 0..3 {
            assert_eq!(show(&mut first, "datestyle"), "Postgres, DMY");
            assert_eq!(show(&mut second, "datestyle"), "Postgres, MDY");
        }
        first.query("begin; set DateStyle = 'german'; rollback").ok();
        second.query("select set_config('datestyle', 'dmy', false)").ok();
        assert_eq!(show(&mut first, "datestyle"), "Postgres, DMY");
        assert_eq!(show(&mut second, "datestyle"), "Postgres, DMY");
        first.query("begin; set local DateStyle = 'SQL, MDY'; set DateStyle = 'ISO'; commit").ok();
        second.query("reset DateStyle").ok();
        assert_eq!(show(&mut second, "datestyle"), "ISO, MDY");
    });
}

#[test]
fn a_savepoint_takes_settings_back_to_where_it_was_set() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        for sql in [
            "begin",
            "set lock_timeout to '1111ms'",
            "savepoint a",
            "set lock_timeout to '2222ms'",
            "savepoint b",
            "set lock_timeout to '3333ms'",
            "rollback to a",
            "commit",
        ] {
            client.query(sql).ok();
        }
        assert_eq!(
            (show(&mut client, "lock_timeout"), show(&mut other, "lock_timeout")),
            ("1111ms".into(), "0".into())
        );
        assert_eq!(show(&mut client, "lock_timeout"), "1111ms");
    });
}

#[test]
fn set_local_ends_with_its_transaction() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("begin; set local lock_timeout to '1111ms'").ok();
        assert_eq!(show(&mut client, "lock_timeout"), "1111ms");
        client.query("commit").ok();
        assert_eq!((show(&mut client, "lock_timeout"), show(&mut other, "lock_timeout")), ("0".into(), "0".into()));
    });
}

#[test]
fn a_setting_in_a_failed_query_was_never_made() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("set lock_timeout to '1111ms'; select 1/0");
        assert_eq!((show(&mut client, "lock_timeout"), show(&mut other, "lock_timeout")), ("0".into(), "0".into()));
        client.parse("", "set lock_timeout to '2222ms'").bind("", &[]).execute();
        client.parse("", "select 1/0").bind("", &[]).execute().sync().reply();
        assert_eq!((show(&mut client, "lock_timeout"), show(&mut other, "lock_timeout")), ("0".into(), "0".into()));
    });
}

#[test]
fn a_reset_returns_to_what_the_client_started_with() {
    everywhere_transactional(|site| {
        let mut client = site.client_with(&[("application_name", "mine"), ("options", "-c lock_timeout=1111")]);
        let mut other = site.client();
        for reset in ["reset lock_timeout", "reset all", "discard all", "set lock_timeout to default"] {
            client.query("set lock_timeout to '2222ms'").ok();
            assert_eq!(show(&mut other, "lock_timeout"), "0", "{reset}");
            client.query(reset).ok();
            assert_eq!(show(&mut client, "lock_timeout"), "1111ms", "{reset}");
            assert_eq!(show(&mut client, "application_name"), "mine", "{reset}");
        }
    });
}

#[test]
fn a_reset_inside_of_a_transaction_returns_there_too() {
    everywhere_transactional(|site| {
        let mut client = site.client_with(&[("options", "-c lock_timeout=1111")]);
        for (end, after) in [("commit", "1111ms"), ("rollback", "2222ms")] {
            client.query("set lock_timeout to '2222ms'").ok();
            for reset in ["reset lock_timeout", "set lock_timeout to default", "reset all"] {
                client.query("begin").ok();
                client.query(reset).ok();
                assert_eq!(show(&mut client, "lock_timeout"), "1111ms", "{reset}");
                client.query("savepoint a; set lock_timeout to '3333ms'").ok();
                client.query("rollback to a").ok();
                assert_eq!(show(&mut client, "lock_timeout"), "1111ms", "{reset}");
                client.query(end).ok();
                assert_eq!(show(&mut client, "lock_timeout"), after, "{reset}; {end}");
            }
        }
    });
}

#[test]
fn characteristics_of_a_session_are_followed() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        let modes = "isolation level repeatable read, read only, deferrable";
        client.query(format!("set session characteristics as transaction {modes}")).ok();
        for (name, here, there) in [
            ("transaction_isolation", "repeatable read", "read committed"),
            ("transaction_read_only", "on", "off"),
            ("transaction_deferrable", "on", "off"),
        ] {
            assert_eq!((show(&mut client, name), show(&mut other, name)), (here.into(), there.into()), "{name}");
        }
        client.query("set session characteristics as transaction read write").ok();
        assert_eq!(show(&mut client, "transaction_read_only"), "off");
        assert_eq!(show(&mut client, "transaction_isolation"), "repeatable read");
    });
}

#[test]
fn whoever_becomes_another_leaves_its_role() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        let who = |client: &mut RawClient| client.query("select session_user || '/' || current_user").value();
        client.query("set role pg_monitor").ok();
        client.query("set session authorization pg_signal_backend").ok();
        assert_eq!(who(&mut client), "pg_signal_backend/pg_signal_backend");
        assert_eq!(who(&mut other), "postgres/postgres");
        assert_eq!(who(&mut client), "pg_signal_backend/pg_signal_backend");
        client.query("set role pg_signal_backend").ok();
        assert_eq!(who(&mut other), "postgres/postgres");
        client.query("reset session authorization").ok();
        assert_eq!(who(&mut other), "postgres/postgres");
        assert_eq!(who(&mut client), "postgres/postgres");
    });
}

#[test]
fn values_of_an_encoding_stay_what_they_are() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("set client_encoding to latin1").ok();
        client.query(b"set app.name to '\xe9t\xe9'").ok();
        assert_eq!(other.query("select 1").value(), "1");
        assert_eq!(client.query(b"select current_setting('app.name') = '\xe9t\xe9'").value(), "t");
        assert_eq!(other.query("select coalesce(current_setting('app.name', true), '')").value(), "");
    });
}

#[test]
fn a_setting_of_the_transaction_names_the_tenant_as_long_as_it_holds() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(1).with(|settings| {
            settings.tenants.rules =
                vec![TenantRule::whole(Origin::Setting { name: "app.tenant_id".to_owned(), path: Vec::new() })];
            let limits = Limits::default().with_time(LimitKey::StatementTimeout, Duration::from_millis(300));
            settings.tenants.limits.insert("acme".to_owned(), limits);
        })
    });
    let mut client = site.client();
    let mut is_limited = |script: &[&str]| {
        client.query("begin").ok();
        for sql in script {
            client.query(sql).ok();
        }
        let limited = !client.query("select pg_sleep(0.7)").errors().is_empty();
        client.query("rollback").ok();
        limited
    };
    let acme = "set local app.tenant_id to 'acme'";
    assert!(is_limited(&[acme]));
    assert!(is_limited(&["select set_config('app.tenant_id', 'acme', true)"]));
    assert!(!is_limited(&["savepoint a", acme, "rollback to a"]));
    assert!(!is_limited(&[acme, "set app.tenant_id to 'globex'"]));
    assert!(!is_limited(&[acme, "set local app.tenant_id to default"]));
    assert!(is_limited(&[acme, "savepoint a", "set local app.tenant_id to 'globex'", "rollback to a"]));
    assert!(!is_limited(&[acme, "commit and chain"]));
}

#[test]
fn set_config_is_followed_with_literals_and_with_parameters() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("select set_config('app.tenant_id', 'acme', false)").ok();
        other.query("select set_config('app.tenant_id', 'globex', false)").ok();
        assert_eq!(show(&mut client, "app.tenant_id"), "acme");
        client.parse("tenant", "select set_config('app.tenant_id', $1, false)").bind("tenant", &["initech"]);
        client.execute().sync().reply().ok();
        assert_eq!(
            (show(&mut other, "app.tenant_id"), show(&mut client, "app.tenant_id")),
            ("globex".into(), "initech".into())
        );
        client.query("begin; select set_config('app.tenant_id', 'local', true); commit").ok();
        assert_eq!(show(&mut client, "app.tenant_id"), "initech");
    });
}

#[test]
fn startup_settings_are_each_clients_own() {
    everywhere_transactional(|site| {
        let mut clients: Vec<(String, RawClient)> = (0..6)
            .map(|n| {
                let (name, timeout) = (format!("client {n}"), format!("{}", 1001 + n));
                let parameters = [("application_name", name.as_str()), ("lock_timeout", timeout.as_str())];
                (format!("{name}/{timeout}ms"), site.client_with(&parameters))
            })
            .collect();
        for _ in 0..3 {
            for (expected, client) in &mut clients {
                let seen = client
                    .query("select current_setting('application_name') || '/' || current_setting('lock_timeout')")
                    .value();
                assert_eq!(seen, *expected);
            }
        }
    });
}

#[test]
fn a_tenant_by_search_path_never_reads_another_tenants_rows() {
    everywhere_transactional(|site| {
        let tenants = ["acme", "globex", "initech"];
        for tenant in tenants {
            let sql = format!("create schema {tenant}; create table {tenant}.t as select '{tenant}'::text as owner");
            site.run_directly(&sql).ok();
        }
        let mut clients: Vec<RawClient> = tenants.iter().map(|_| site.client()).collect();
        for round in 0..20 {
            for (client, tenant) in clients.iter_mut().zip(tenants) {
                match round % 4 {
                    0 => drop(client.query(format!("set search_path to {tenant}")).ok()),
                    1 => drop(client.query("begin; set search_path to public; rollback").ok()),
                    2 => drop(client.query("begin; set local search_path to public; commit").ok()),
                    _ => {}
                }
                assert_eq!(client.query("select owner from t").value(), tenant, "round {round}");
                let prepared = client.parse("", "select owner from t").bind("", &[]).execute().sync().reply();
                assert_eq!(prepared.value(), tenant, "round {round}");
            }
        }
    });
}

#[test]
fn what_cannot_be_followed_is_not_left_for_the_next_client() {
    let site = Site::pooled(Transaction, 2);
    let mut first = site.client();
    let mut others = [site.client(), site.client()];
    first.query("create temp table mine (n int)").ok();
    first.query("prepare plan as select 1").ok();
    first.query("do $$ begin perform set_config('lock_timeout', '77ms', false); end $$").ok();
    first.query("set role pg_monitor").ok();
    for _ in 0..3 {
        for other in &mut others {
            assert_eq!(other.query("select * from mine").error().code(), "42P01");
            assert_eq!(other.query("execute plan").error().code(), "26000");
            assert_eq!(show(other, "lock_timeout"), "0");
            assert_eq!(other.query("select current_user").value(), "postgres");
        }
    }
}

#[test]
fn a_changed_parameter_is_reported_to_the_client_that_changed_it() {
    everywhere(|site| {
        let mut client = site.client();
        client.query("set timezone to 'Europe/Oslo'").ok();
        assert_eq!(client.parameter("TimeZone"), Some("Europe/Oslo"));
        client.query("set application_name to 'named'").ok();
        assert_eq!(client.parameter("application_name"), Some("named"));
    });
}

#[test]
fn random_lives_of_three_clients_look_as_on_connections_of_their_own() {
    // The same lives in every run, so that a failure can be looked at.
    random_lives(0x5EED, |step| step < 150);
}

#[test]
#[ignore = "a long run of the test before, with lives of its own each time: make soak"]
fn soak_random_lives() {
    let seconds = std::env::var("PGWEIR_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(seconds);
    let seed = rand::random();
    println!("seed {seed:#x}");
    random_lives(seed, |_| Instant::now() < end);
}

/// Three clients take turns on one server; each has a mirror with a connection of its own, and has to see the same.
fn random_lives(seed: u64, goes_on: impl Fn(u64) -> bool) {
    let site = Site::pooled(Transaction, 1);
    let mut random = Random(seed);
    let mut pairs: Vec<[RawClient; 2]> =
        (0..3).map(|_| [site.client(), Cluster::shared().connect(&site.database)]).collect();
    for step in (0..).take_while(|step| goes_on(*step)) {
        let pair = random.below(3);
        let script = random.script();
        let [proxied, direct] = pairs[pair].each_mut().map(|client| live(client, &script));
        assert_eq!(proxied, direct, "step {step}, client {pair}: {script:?}");
    }
}

const NAMES: [&str; 3] = ["lock_timeout", "search_path", "app.tenant_id"];

struct Random(u64);

impl Random {
    /// Knuth's linear congruential generator: all that is needed is that it repeats.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn script(&mut self) -> Vec<String> {
        let mut script: Vec<String> = (0..self.below(6)).map(|_| self.statement()).collect();
        if self.below(3) == 0 {
            // Without a block: each statement for itself.
            script.retain(|sql| !sql.contains("savepoint") && !sql.contains("rollback to"));
            return script;
        }
        script.insert(0, "begin".to_owned());
        script.push(["commit", "rollback"][self.below(2)].to_owned());
        script
    }

    fn statement(&mut self) -> String {
        let (name, value) = (NAMES[self.below(3)], self.below(9) + 1);
        match self.below(9) {
            0 => "savepoint s".to_owned(),
            1 => "rollback to s".to_owned(),
            2 => format!("set local {name} to '{value}'"),
            3 => format!("reset {name}"),
            4 => format!("select set_config('{name}', '{value}', false)"),
            5 => "select 1/0".to_owned(),
            6 => format!("set {name} to '{value}'; select 1/0"),
            _ => format!("set {name} to '{value}'"),
        }
    }
}

/// Runs the script, and tells how each step ended and what the settings were at the end.
fn live(client: &mut RawClient, script: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for sql in script {
        let reply = client.query(sql);
        let code = reply.errors().first().map_or("", |error| error.code()).to_owned();
        seen.push(format!("{sql}: {code} {}", reply.status()));
    }
    for name in NAMES {
        let reply = client.query(format!("select current_setting('{name}', true)"));
        // A custom setting that was once made and taken back is empty, one that never was made is NULL.
        seen.push(format!("{name} = {}", reply.value().replace('∅', "")));
    }
    seen
}

/// As drivers ask for one value: of a statement whose first row is all that was wanted, the server says that it is
/// suspended, and not that it is complete.
#[test]
fn what_a_statement_with_a_row_limit_sets_is_followed() {
    let site = Site::behind(Transaction, |proxy| proxy.size(1));
    let (mut client, mut other) = (site.client(), site.client());
    let value = "select coalesce(current_setting('app.leak', true), '')";
    let limited = |client: &mut RawClient, sql: &str| {
        client.parse("", sql).bind("", &[]).say(frontend::execute("", 1)).sync().send();
        client.reply().ok();
    };
    limited(&mut client, "select set_config('app.leak', 'mine', false)");
    assert_eq!(other.query(value).value(), "");
    assert_eq!(client.query(value).value(), "mine");
    client.query("begin").ok();
    limited(&mut client, "select set_config('app.leak', 'local', true)");
    assert_eq!(client.query(value).value(), "local");
    client.query("commit").ok();
    assert_eq!(client.query(value).value(), "mine");
    limited(&mut client, "select pg_advisory_lock(77)");
    // Whoever holds a lock of the session keeps the session.
    other.start_query(value);
    assert!(other.hears_nothing_for(Duration::from_millis(100)));
    client.query("select pg_advisory_unlock(77)").ok();
    client.terminate();
    assert_eq!(other.reply().value(), "");
}
