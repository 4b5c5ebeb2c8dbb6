//! What a client leaves behind when it goes at the worst moment: nothing of it may meet the next one.

use std::io::Write;
use std::time::Duration;

use config::{LimitKey, Limits, PoolMode};
use integration_tests::{
    Cluster, FakeUpstream, Proxy, RawClient, Site, backend, eventually, everywhere_transactional, frontend,
};

#[test]
fn settings_that_were_still_being_made_do_not_stay() {
    // The server takes its time over the SET: the client is gone before it is done.
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve_until("search_path")?;
        connection.delay(Duration::from_millis(200));
        connection.send(&backend::one_value("tenant_a"))?;
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(1).start();
    let parameters = [("user", "anna"), ("database", "shop"), ("search_path", "tenant_a")];
    let mut first = RawClient::login_with(proxy.address(), &parameters, "");
    first.start_query("select 1");
    eventually("the settings are being made", || upstream.queries().iter().any(|sql| sql.contains("search_path")));
    first.vanish();
    let mut next = RawClient::login(proxy.address(), "anna", "shop");
    assert_eq!(next.query("select 'next'").value(), "1");
    let queries = upstream.queries();
    let undone = |sql: &String| sql == "DISCARD ALL" || sql.contains("RESET");
    let replaced = upstream.logins() > 1;
    assert!(replaced || queries.iter().any(undone), "{queries:?}");
}

#[test]
fn an_unnamed_statement_too_long_to_keep_is_never_taken_for_another_clients() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let (mut first, mut other) = (site.client(), site.client());
    let long = format!("select 'first' /* {} */ || ''", "x".repeat(5000));
    assert_eq!(first.parse("", &long).sync().reply().ok().shape(), "1Z");
    assert_eq!(other.parse("", "select 'other'").sync().reply().ok().shape(), "1Z");
    let reply = first.bind("", &[]).execute().sync().reply();
    assert_eq!((reply.error().code(), reply.rows().len()), ("26000", 0), "{reply:?}");
    // On the server that it was parsed on it works.
    assert_eq!(first.parse("", &long).bind("", &[]).execute().sync().reply().value(), "first");
}

#[test]
fn a_function_called_by_its_oid_changes_nothing_for_others() {
    everywhere_transactional(|site| {
        let (mut first, mut other) = (site.client(), site.client());
        // 2078 is set_config(text, text, boolean).
        let mut body = vec![0, 0, 8, 30, 0, 0, 0, 3];
        for argument in ["app.tenant", "first", "f"] {
            body.extend((argument.len() as u32).to_be_bytes());
            body.extend(argument.as_bytes());
        }
        body.extend([0, 0]);
        assert_eq!(first.say(frontend::message(b'F', &body)).reply().ok().shape(), "VZ");
        assert_eq!(other.query("select coalesce(current_setting('app.tenant', true), '')").value(), "");
    });
}

#[test]
fn a_lock_taken_by_a_statement_that_failed_is_given_up() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let (mut first, mut other) = (site.client(), site.client());
    let reply = first.query("select pg_advisory_lock(42), 1 / n from generate_series(0, 0) n");
    assert_eq!(reply.error().code(), "22012");
    other.query("select 1").ok();
    let locks = site.run_directly("select count(*) from pg_locks where locktype = 'advisory' and objid = 42");
    assert_eq!(locks.value(), "0");
}

#[test]
fn a_failed_copy_does_not_keep_its_server_from_others() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let (mut first, mut other) = (site.client(), site.client());
    first.query("create table c (n int)").ok();
    first.start_query("copy c from stdin");
    first.read_until('G');
    first.say(frontend::copy_data(b"not a number\n"));
    // The beginning of a message whose rest comes after the error.
    let late = frontend::copy_data(&[b'x'; 100_000]);
    first.say(&late[..10]);
    assert_eq!(first.reply().error().code(), "22P02");
    first.stream().write_all(&late[10..]).unwrap();
    first.stream().write_all(&frontend::copy_done()).unwrap();
    // The first client says nothing more: it has heard how its copy ended.
    assert_eq!(other.query("select 'served'").value(), "served");
}

#[test]
fn rows_for_no_copy_take_no_server() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let (mut first, mut other) = (site.client(), site.client());
    let stray = frontend::copy_data(&[b'x'; 100_000]);
    first.stream().write_all(&stray[..50_000]).unwrap();
    assert!(first.hears_nothing_for(Duration::from_millis(100)));
    assert_eq!(other.query("select 'served'").value(), "served");
    first.stream().write_all(&stray[50_000..]).unwrap();
    assert_eq!(first.query("select 'me too'").value(), "me too");
}

#[test]
fn a_name_whose_server_died_is_free_again() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        if connection.index == 0 {
            connection.serve_until("select boom")?;
            return connection.send(&backend::fatal("57P01", "terminating connection due to administrator command"));
        }
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(1).start();
    let mut client = RawClient::login(proxy.address(), "anna", "shop");
    assert_eq!(client.parse("a", "select boom").sync().reply().error().code(), "57P01");
    assert_eq!(client.parse("a", "select 1").sync().reply().ok().shape(), "1Z");
}

#[test]
fn a_closed_name_behind_a_skipped_request_does_not_bring_that_request_back() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        if connection.index == 0 {
            connection.serve_until("select boom")?;
            return Ok(());
        }
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(1).start();
    let mut client = RawClient::login(proxy.address(), "anna", "shop");
    // The server goes while the request has no Sync yet: what follows up to the Sync is passed over.
    client.parse("", "select boom").flush();
    assert_eq!(client.read_until('E').error().code(), "08006");
    client.bind("", &[]).execute().sync().say(frontend::close(b'S', "a")).flush();
    assert_eq!(client.reply().shape(), "Z");
    assert_eq!(client.sync().reply().ok().shape(), "3Z");
    assert!(!upstream.tags(1).contains('E'), "{}", upstream.tags(1));
}

#[test]
fn a_connection_attempt_outlives_the_client_that_it_was_begun_for() {
    // The first attempt takes longer than its client has time for.
    let upstream = FakeUpstream::start(|connection| {
        if connection.index == 0 {
            connection.delay(Duration::from_millis(600));
        }
        connection.login()?;
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address())
        .size(1)
        .with(|settings| settings.auth.login_timeout = Duration::from_millis(200))
        .start();
    let parameters = [("user", "anna"), ("database", "shop")];
    assert!(RawClient::try_login(proxy.address(), &parameters, "").is_err());
    eventually("the pool has its connection", || RawClient::try_login(proxy.address(), &parameters, "").is_ok());
    assert_eq!(RawClient::login(proxy.address(), "anna", "shop").query("select 1").value(), "1");
}

#[test]
fn each_request_of_a_pipeline_has_its_own_time() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        loop {
            let (tag, _) = connection.receive()?;
            if tag == 'Q' {
                connection.delay(Duration::from_millis(150));
                connection.send(&backend::one_value("1"))?;
            }
        }
    });
    let limits = Limits::default().with_time(LimitKey::StatementTimeout, Duration::from_millis(300));
    let proxy =
        Proxy::before(upstream.address()).size(1).with(|settings| settings.tenants.default_limits = limits).start();
    let mut client = RawClient::login(proxy.address(), "anna", "shop");
    for _ in 0..8 {
        client.say(frontend::query("select 1"));
    }
    client.send();
    for _ in 0..8 {
        client.reply().ok();
    }
    assert_eq!(upstream.cancels(), 0);
}

#[test]
fn a_pipeline_whose_statements_are_all_missing_gets_them_in_parts() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(1).pool(|pool| pool.max_prepared = 1).start();
    let mut client = RawClient::login(proxy.address(), "anna", "shop");
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    for name in &names {
        let long = format!("select '{name}' /* {} */ || ''", "x".repeat(200_000));
        client.parse(name, &long).sync().reply().ok();
    }
    let injected = |upstream: &FakeUpstream| upstream.tags(0).matches('P').count();
    let before = injected(&upstream);
    for name in &names {
        client.bind(name, &[]).execute();
    }
    assert_eq!(client.sync().reply().ok().shape(), format!("{}Z", "2C".repeat(20)));
    assert_eq!(injected(&upstream) - before, 20, "each had made room for the next");
}

#[test]
fn what_stands_behind_the_part_of_a_text_that_is_read_meets_nobody_else() {
    // Texts are read up to 256 KiB, and held whole up to 260.
    let filler = |length: usize| "x".repeat(length * 1024);
    let hidden = "set_config('app.secret', 'mine', false)";
    let behind = |text: String| format!("{text}; select {hidden}");
    let texts = [
        behind(format!("select length('{}')", filler(257))),
        behind(format!("select length('{}')", filler(300))),
        format!("select length('{}'), {hidden}", filler(257)),
        format!("select length('{}'), {hidden}", filler(300)),
        behind(format!("/* {} */ select 1;{}", filler(100), " ".repeat(170 * 1024))),
        behind(format!("/* {} */ select 1", filler(257))),
    ];
    for text in &texts {
        let shown = (text.get(..40), text.len());
        // Each alone, so that nothing resets the server but what is shown here.
        for extended in [false, true] {
            let site = Site::pooled(PoolMode::Transaction, 1);
            let mut one = site.client();
            one.query("select 1").ok();
            let ran = match extended {
                false => one.query(text),
                true if text.contains("; select ") => continue,
                true => one.parse("", text).bind("", &[]).execute().sync().send().reply(),
            };
            assert!(ran.errors().is_empty(), "{shown:?} {ran:?}");
            let mut other = site.client();
            let seen = other.query("select coalesce(current_setting('app.secret', true), '')").ok().value().to_owned();
            assert_eq!(seen, "", "{shown:?}, extended: {extended}");
        }
    }
}

#[test]
fn a_statement_that_catches_its_cancels_does_not_outlive_its_upstream() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let cluster = Cluster::shared();
    let sleepers =
        format!("select count(*) from pg_stat_activity where datname = '{}' and query like 'do %'", site.database);
    for _ in 0..2 {
        let mut client = site.client();
        client.start_query(
            "do $$ begin loop begin perform pg_sleep(60); exception when query_canceled then null; end; end loop; end $$",
        );
        eventually("it runs", || cluster.value("postgres", &sleepers) == "1");
        client.vanish();
        // Whoever comes next waits for its place, and gets it.
        assert_eq!(site.client().query("select 'next'").ok().value(), "next");
        assert_eq!(cluster.value("postgres", &sleepers), "0", "no process beyond those that are counted");
    }
}
