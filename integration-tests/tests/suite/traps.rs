//! Places where other poolers fell, as far as no other suite walks over them. `docs/traps.md` lists them all.

use std::time::{Duration, Instant};

use config::PoolMode;
use integration_tests::{RawClient, Site, everywhere, everywhere_transactional, frontend, http};

#[test]
fn a_client_of_protocol_3_2_cancels_by_its_long_key() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let mut client = RawClient::connect(site.address());
    client.say(frontend::startup(frontend::PROTOCOL_3_2, &site.parameters(&[])));
    client.finish_login(&[], "").unwrap_or_else(|error| panic!("{error:?}"));
    let (_, key) = client.key.clone().expect("every client gets a key");
    assert!(key.len() > 4, "a key of {} bytes is that of protocol 3.0", key.len());
    client.start_query("select pg_sleep(30)").send();
    std::thread::sleep(Duration::from_millis(100));
    client.cancel();
    assert_eq!(client.reply().error().code(), "57014");
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn one_text_prepared_by_tenants_with_tables_of_their_own_is_planned_for_each() {
    everywhere_transactional(|site| {
        site.run_directly("create schema one; create table one.t (a int); insert into one.t values (1)").ok();
        site.run_directly(
            "create schema two; create table two.t (a text, b text); insert into two.t values ('x', 'y')",
        )
        .ok();
        let mut one = site.client_with(&[("search_path", "one")]);
        let mut two = site.client_with(&[("search_path", "two")]);
        for client in [&mut one, &mut two] {
            assert_eq!(client.parse("s", "select * from t").sync().reply().shape(), "1Z");
        }
        for _ in 0..3 {
            let reply = one.bind("s", &[]).execute().sync().reply();
            assert_eq!(reply.rows(), [["1"]]);
            let reply = two.bind("s", &[]).execute().sync().reply();
            assert_eq!(reply.rows(), [["x", "y"]]);
        }
    });
}

#[test]
fn a_close_behind_a_parse_that_failed_leaves_the_name_free() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        let reply = client.parse("s", "select nonsense from nowhere").say(frontend::close(b'S', "s")).sync().reply();
        assert_eq!(reply.shape(), "EZ");
        assert_eq!(client.say(frontend::close(b'S', "s")).sync().reply().shape(), "3Z");
        assert_eq!(client.parse("s", "select 1").bind("s", &[]).execute().sync().reply().value(), "1");
    });
}

#[test]
fn what_stands_behind_an_error_in_a_prepare_reaches_nobody_else() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        let reply = client.query("prepare p as select nonsense from nowhere; select 'first'");
        assert_eq!(reply.shape(), "EZ");
        assert_eq!(other.query("select 'second'").value(), "second");
        client.parse("", "prepare q as select nonsense from nowhere").bind("", &[]).execute();
        client.parse("", "select 'third'").bind("", &[]).execute().sync();
        assert_eq!(client.reply().shape(), "12EZ");
        assert_eq!(other.query("select 'fourth'").value(), "fourth");
    });
}

/// A SET in the client's own query or pipeline would make a transaction of it, which VACUUM refuses (25001).
#[test]
fn vacuum_runs_behind_settings_that_are_made_for_it() {
    everywhere_transactional(|site| {
        site.run_directly("create table t (a int)").ok();
        let mut client = site.client_with(&[("statement_timeout", "60s"), ("work_mem", "8MB")]);
        let mut other = site.client_with(&[("statement_timeout", "50s")]);
        for _ in 0..2 {
            assert_eq!(other.query("show statement_timeout").value(), "50s");
            assert_eq!(client.query("vacuum t").ok().shape(), "CZ");
            assert_eq!(other.query("show statement_timeout").value(), "50s");
            let reply = client.parse("", "vacuum t").bind("", &[]).execute().sync().reply();
            assert_eq!(reply.shape(), "12CZ", "{reply:?}");
        }
    });
}

/// Poolers that parse whole statements took minutes and gigabytes for these.
#[test]
fn an_in_list_of_megabytes_is_no_burden() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let mut client = site.client();
    let list: Vec<String> = (1_000_000..1_400_000).map(|n| n.to_string()).collect();
    let text = format!("select 1000017 in ({})", list.join(","));
    assert!(text.len() > 3_000_000);
    let time = |run: &mut dyn FnMut() -> String| {
        let began = Instant::now();
        assert_eq!(run(), "t");
        began.elapsed()
    };
    let mut direct = Site::direct().client();
    let alone = time(&mut || direct.query(&text).value());
    let simple = time(&mut || client.query(&text).value());
    let extended = time(&mut || client.parse("", &text).bind("", &[]).execute().sync().reply().value());
    let bound = alone * 4 + Duration::from_secs(2);
    assert!(simple < bound && extended < bound, "directly {alone:?}, simple {simple:?}, extended {extended:?}");
}

/// What a metric of the admin port says, summed over its labels.
fn metric(site: &Site, name: &str) -> f64 {
    let page = http::fetch(site.admin(), "/metrics");
    let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.body.lines().filter(of_metric).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn a_client_gets_the_idle_server_that_has_its_settings() {
    let site = Site::behind(PoolMode::Transaction, |proxy| proxy.size(2).with(|settings| settings.workers = 1));
    let mut one = site.client_with(&[("search_path", "one")]);
    let mut two = site.client_with(&[("search_path", "two")]);
    // Both at once: each opens an upstream of its own and has its settings made there.
    for client in [&mut one, &mut two] {
        client.query("begin").ok();
    }
    for client in [&mut one, &mut two] {
        client.query("commit").ok();
    }
    let before = metric(&site, "pgweir_pool_settings_sent_total");
    for _ in 0..20 {
        assert_eq!(one.query("show search_path").value(), "one");
        assert_eq!(two.query("show search_path").value(), "two");
    }
    assert!(before >= 2.0, "{before}");
    assert_eq!(metric(&site, "pgweir_pool_settings_sent_total"), before);
}

#[test]
fn an_error_anywhere_in_a_pipeline_keeps_what_came_before_it_and_skips_the_rest() {
    everywhere(|site| {
        let mut client = site.client();
        client.query("create table kept (a int primary key)").ok();
        for bad in 0..5 {
            client.query("truncate kept").ok();
            for n in 0..5 {
                let value = if n == bad { "no number".to_owned() } else { n.to_string() };
                client.parse("", "insert into kept values ($1::text::int)").bind("", &[&value]).execute();
                // Each with a Sync of its own: only the bad one is lost.
                client.sync();
            }
            let errors = (0..5).filter(|_| !client.reply().errors().is_empty()).count();
            assert_eq!(errors, 1);
            assert_eq!(client.query("select count(*) from kept").value(), "4");
            for n in 10..15 {
                let value = if n - 10 == bad { "no number".to_owned() } else { n.to_string() };
                client.parse("", "insert into kept values ($1::text::int)").bind("", &[&value]).execute();
            }
            // One Sync for all of them: one transaction.
            assert_eq!(client.sync().reply().errors().len(), 1);
            assert_eq!(client.query("select count(*) from kept").value(), "4");
        }
    });
}
