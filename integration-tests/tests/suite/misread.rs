//! What a session makes its server read otherwise than others do, and what it leaves unread: nothing of that reaches the
//! next client.

use config::PoolMode::Transaction;
use config::{OnUntracked, Untracked};
use integration_tests::{Cluster, RawClient, Site, everywhere, frontend, http};

/// In plain strings with escapes, and only there, a SET stands behind the first constant.
const IN_STRING: &str = r"select 'x\' || '; set search_path = evil; --'";
/// Only in plain strings without escapes one does.
const IN_PLAIN: &str = r"select '\'; set search_path = evil; --'";
/// Only where the two bytes are one character one does.
const IN_CHARACTER: &[u8] = b"select E'\x95\x5c'; set search_path = evil; --'";

/// One server, which is reset where its client has left something.
fn site() -> Site {
    let untracked = Untracked::all(OnUntracked::Discard);
    Site::behind(Transaction, |proxy| proxy.size(1).pool(|pool| pool.untracked = untracked))
}

fn path(client: &mut RawClient) -> String {
    client.query("show search_path").value()
}

/// All of it at once.
fn pipelined(client: &mut RawClient, texts: &[&[u8]]) {
    client.say(texts.iter().map(frontend::query).collect::<Vec<_>>().concat()).send();
    texts.iter().for_each(|_| drop(client.reply().ok()));
}

#[test]
fn strings_that_are_read_in_another_way_bring_nothing_to_the_next_client() {
    let site = site();
    let mut other = site.client();
    let usual = path(&mut other);
    for value in ["E'off'", "$$off$$", "00", "'of'", "fa", "U&'off'", "off"] {
        let mut client = site.client();
        client.query(format!("set standard_conforming_strings = {value}")).ok();
        client.query(IN_STRING).ok();
        assert_eq!(path(&mut other), usual, "{value}");
    }
    let mut client = site.client_with(&[("options", "-c standard_conforming_strings=of")]);
    client.query(IN_STRING).ok();
    assert_eq!(path(&mut other), usual, "at the beginning");
    for set in [
        "set local standard_conforming_strings = E'off'",
        "select set_config('standard_' || 'conforming_strings', 'off', true)",
    ] {
        let mut client = site.client();
        client.query("begin").ok();
        client.query(set).ok();
        client.query(IN_STRING).ok();
        client.query("commit").ok();
        assert_eq!(path(&mut other), usual, "{set}");
        let text = IN_STRING.as_bytes();
        pipelined(&mut client, &[b"begin", set.as_bytes(), text, b"commit"]);
        assert_eq!(path(&mut other), usual, "{set}, at once");
    }
    let mut client = site.client_with(&[("options", "-c standard_conforming_strings=off")]);
    for back in ["reset all", "reset standard_conforming_strings", "discard all"] {
        pipelined(&mut client, &[back.as_bytes(), IN_PLAIN.as_bytes()]);
        assert_eq!(path(&mut other), usual, "{back}");
    }
}

#[test]
fn characters_that_hide_where_strings_end_bring_nothing_to_the_next_client() {
    let site = site();
    let mut other = site.client();
    let usual = path(&mut other);
    for set in ["set client_encoding = E'SJIS'", "set names E'SJIS'", "set names'SJIS'"] {
        let mut client = site.client();
        client.query(set).ok();
        client.query(IN_CHARACTER).ok();
        assert_eq!(path(&mut other), usual, "{set}");
    }
    for set in [
        "set local client_encoding = 'SJIS'",
        "set local names 'SJIS'",
        "select set_config('client_' || 'encoding', 'SJIS', true)",
        "select set_config('client_encoding', 'SJIS', true)",
    ] {
        let mut client = site.client();
        client.query("begin").ok();
        client.query(set).ok();
        client.query(IN_CHARACTER).ok();
        client.query("commit").ok();
        assert_eq!(path(&mut other), usual, "{set}");
        pipelined(&mut client, &[b"begin", set.as_bytes(), IN_CHARACTER, b"commit"]);
        assert_eq!(path(&mut other), usual, "{set}, at once");
    }
    // More savepoints than are followed.
    let mut client = site.client();
    client.query("begin; set local client_encoding = 'UTF8'").ok();
    client.query("savepoint s; ".repeat(1_100)).ok();
    client.query("set local client_encoding = 'SJIS'").ok();
    client.query("savepoint last; rollback to last").ok();
    client.query(IN_CHARACTER).ok();
    client.query("commit").ok();
    assert_eq!(path(&mut other), usual, "behind savepoints");
}

#[test]
fn a_servers_own_encoding_may_hide_where_strings_end() {
    let site = site();
    site.run_directly(&format!("alter database {} set client_encoding = 'GBK'", site.database)).ok();
    let (mut client, mut other) = (site.client(), site.client());
    let usual = path(&mut other);
    assert_eq!(client.query("show client_encoding").value(), "GBK");
    client.query(IN_CHARACTER).ok();
    assert_eq!(path(&mut other), usual);
}

#[test]
fn equal_texts_of_two_databases_are_two_statements() {
    let one = Site::behind(Transaction, |proxy| proxy.size(1).with(|settings| settings.workers = 1));
    let two = Cluster::shared().fresh_database();
    one.run_directly("create table t (a int); insert into t values (1)").ok();
    Cluster::shared().run(&two, "create table t (b text, c text); insert into t values ('x', 'y')");
    let login = || RawClient::login(one.address(), "postgres", &two);
    let (mut first, mut second, mut third) = (one.client(), login(), login());
    for client in [&mut first, &mut second] {
        client.parse("s", "select * from t").say(frontend::describe(b'S', "s")).sync().reply().ok();
    }
    third.query("create table other (n int)").ok();
    // The server has nothing of before.
    third.query("select set_config('app.x', n::text, false) from generate_series(1, 2) n").ok();
    third.query("discard all").ok();
    let run = |client: &mut RawClient| client.bind("s", &[]).execute().sync().reply().ok().rows();
    assert_eq!(run(&mut second), [["x", "y"]]);
    assert_eq!(run(&mut first), [["1"]]);
}

#[test]
fn a_text_that_is_read_in_two_ways_is_two_statements() {
    let site = Site::behind(Transaction, |proxy| proxy.size(1).with(|settings| settings.workers = 1));
    site.run_directly("create table t (a int); insert into t values (null)").ok();
    let prepared = |client: &mut RawClient, name: &str, sql: &str| {
        client.parse(name, sql).bind(name, &[]).execute().sync().reply().ok().value()
    };
    for (set, sql, own, usual) in [
        ("set standard_conforming_strings = off", r"select 'a\\b'", r"a\b", r"a\\b"),
        ("set transform_null_equals = on", "select count(*) from t where a = null", "1", "0"),
    ] {
        let (mut first, mut second) = (site.client(), site.client());
        first.query(set).ok();
        for name in ["", "s"] {
            assert_eq!(prepared(&mut first, name, sql), own, "{set}");
            assert_eq!(prepared(&mut second, name, sql), usual, "{set}");
        }
        let mut third = site.client();
        third.query("begin").ok();
        third.query(set.replace("set", "set local")).ok();
        let other = format!("{sql} -- local");
        assert_eq!(prepared(&mut third, "s", &other), own, "{set}");
        third.query("commit").ok();
        assert_eq!(prepared(&mut second, "other", &other), usual, "{set}");
    }
    // Prepared in the usual way, and made again for somebody who reads it otherwise.
    let (mut first, mut second) = (site.client(), site.client());
    let sql = "select count(*) from t where null = a";
    assert_eq!(prepared(&mut first, "s", sql), "0");
    assert_eq!(prepared(&mut second, "s", sql), "0");
    second.query("select set_config('app.x', n::text, false) from generate_series(1, 2) n").ok();
    second.query("discard all").ok();
    second.parse("s", sql).sync().reply().ok();
    first.query("set transform_null_equals = on").ok();
    let mut fresh = site.client();
    fresh.query("select set_config('app.x', n::text, false) from generate_series(1, 2) n").ok();
    fresh.query("discard all").ok();
    first.bind("s", &[]).execute().sync().reply().ok();
    assert_eq!(second.bind("s", &[]).execute().sync().reply().ok().value(), "0");
}

#[test]
fn what_takes_a_right_to_take_back_is_reset() {
    let site = site();
    let cluster = Cluster::shared();
    cluster.create_role("plain", None);
    cluster.run("postgres", "create role dba superuser; grant dba to plain");
    let login = || RawClient::login(site.address(), "plain", &site.database);
    for made in [
        "set role dba; set log_min_duration_statement = 0; reset role",
        "begin; set local role dba; set log_min_duration_statement = 0; commit",
    ] {
        let (mut client, mut other) = (login(), login());
        client.query(made).ok();
        assert_eq!(other.query("select 1").value(), "1", "{made}");
        assert_eq!(other.query("show log_min_duration_statement").value(), "-1", "{made}");
    }
}

#[test]
fn what_ends_with_its_transaction_is_not_taken_back() {
    let site = Site::pooled(Transaction, 1);
    let sent = || {
        let metrics = http::fetch(site.admin(), "/metrics").body;
        let of = metrics.lines().find(|line| line.starts_with("pgweir_pool_settings_sent_total{"));
        of.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let (mut client, mut other) = (site.client(), site.client());
    other.query("select 1").ok();
    let before = sent();
    assert!(before.is_some());
    client.query("select set_config('transaction_read_only', 'on', false)").ok();
    assert_eq!(other.query("select 1").value(), "1");
    let mut begins = site.client_with(&[("options", "-c transaction_isolation=serializable")]);
    begins.query("select 1").ok();
    other.query("select 1").ok();
    assert_eq!(sent(), before);
}

#[test]
fn a_setting_taken_back_again_and_again_is_made_once() {
    let value = "x".repeat(9_000);
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client_with(&[("options", &format!("-c a.b={value}"))]);
    client.query("begin; set local a.b = 'y'").ok();
    let commands = client.query("set local a.b to default;".repeat(10_000)).ok();
    assert_eq!(commands.commands().len(), 10_000);
    assert_eq!(client.query("show a.b").value(), value);
    client.query("commit").ok();
    assert_eq!(client.query("show a.b").value(), value);
}

#[test]
fn another_clients_sequence_value_is_not_told_within_a_transaction() {
    let site = Site::pooled(Transaction, 1);
    site.run_directly("create sequence s").ok();
    let (mut first, mut second) = (site.client(), site.client());
    let extended = |client: &mut RawClient| client.parse("", "select lastval()").bind("", &[]).execute().sync().reply();
    for way in 0..3 {
        first.query("select nextval('s')").ok();
        let code = match way {
            0 => {
                second.query("begin").ok();
                second.query("select lastval()").error().code().to_owned()
            }
            1 => {
                second.query("begin; set local lock_timeout = 1").ok();
                extended(&mut second).error().code().to_owned()
            }
            _ => {
                second.say([frontend::query("begin"), frontend::query("select lastval()")].concat()).send();
                second.reply().ok();
                second.reply().error().code().to_owned()
            }
        };
        assert_eq!(code, "55000", "{way}");
        second.query("rollback").ok();
        second.query("discard all").ok();
    }
    for drawn in ["select nextval('s')", "do $$ begin perform nextval('s'); end $$"] {
        first.query("begin").ok();
        first.query(drawn).ok();
        assert!(!first.query("select lastval()").value().is_empty(), "{drawn}");
        assert!(!extended(&mut first).ok().value().is_empty(), "{drawn}");
        first.query("commit").ok();
        first.query("discard all").ok();
    }
}

#[test]
fn a_deallocate_that_is_prepared_under_a_name_finds_what_it_names() {
    everywhere(|site| {
        let mut client = site.client();
        client.parse("mine", "select 1").sync().reply().ok();
        let gone = client.parse("takes", "deallocate mine").bind("takes", &[]).execute().sync().reply().ok();
        assert_eq!(gone.commands(), ["DEALLOCATE"]);
        assert_eq!(client.bind("mine", &[]).execute().sync().reply().error().code(), "26000");
        client.query("discard temp").ok();
        assert_eq!(client.parse("mine", "select 2").bind("mine", &[]).execute().sync().reply().ok().value(), "2");
        // What it names is what has the name when it runs.
        assert_eq!(client.bind("takes", &[]).execute().sync().reply().ok().commands(), ["DEALLOCATE"]);
        assert_eq!(client.bind("mine", &[]).execute().sync().reply().error().code(), "26000");
    });
}

#[test]
fn a_reset_is_told_as_what_the_client_began_with() {
    everywhere(|site| {
        let began = [("client_encoding", "LATIN1"), ("TimeZone", "Asia/Tokyo"), ("application_name", "began")];
        let mut client = site.client_with(&began);
        for back in ["discard all", "reset all", "reset client_encoding; reset timezone; reset application_name"] {
            for change in ["select 1", "set client_encoding = 'UTF8'; set timezone = 'UTC'; set application_name = 'x'"]
            {
                client.query(change).ok();
                client.query(back).ok();
                for (name, value) in began {
                    assert_eq!(client.parameter(name), Some(value), "{name}: {change}; {back}");
                    assert_eq!(client.query(format!("show {name}")).value(), value, "{back}");
                }
            }
        }
    });
}
