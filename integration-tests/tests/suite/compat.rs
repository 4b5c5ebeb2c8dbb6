//! What the drivers' own test suites have found: each has a small test of its own here.

use config::PoolMode;
use integration_tests::{Cluster, RawClient, Site, eventually, everywhere, everywhere_transactional, frontend, http};

fn names(client: &mut RawClient) -> Vec<Vec<String>> {
    client.query("select name from pg_prepared_statements order by name").ok().rows()
}

#[test]
fn an_error_in_a_transaction_is_told_before_the_sync_is_sent() {
    everywhere(|site| {
        let mut client = site.client();
        client.query("begin").ok();
        client.parse("", "select 1").bind("", &[]).execute();
        client.parse("", "select 1/0").bind("", &[]).execute().send();
        let told = client.read_until('E');
        assert_eq!(told.error().code(), "22012");
        assert_eq!(client.sync().reply().shape(), "Z");
        client.query("rollback").ok();
    });
}

#[test]
fn in_session_mode_a_server_knows_statements_by_their_clients_names() {
    let site = Site::pooled(PoolMode::Session, 1);
    let mut client = site.client();
    assert_eq!(client.parse("mine", "select 41 + $1::int").sync().reply().shape(), "1Z");
    assert_eq!(names(&mut client), [["mine"]]);
    assert_eq!(client.query("execute mine(1)").ok().value(), "42");
    assert_eq!(client.bind("mine", &["2"]).execute().sync().reply().value(), "43");
    let again = client.parse("mine", "select 1").sync().reply();
    assert_eq!(again.error().code(), "42P05");
    assert_eq!(client.bind("mine", &["3"]).execute().sync().reply().value(), "44");
    assert_eq!(client.say(frontend::close(b'S', "mine")).sync().reply().shape(), "3Z");
    assert!(names(&mut client).is_empty());
    assert_eq!(client.parse("left", "select 1").sync().reply().shape(), "1Z");
    client.terminate();
    assert!(names(&mut site.client()).is_empty());
}

#[test]
fn a_statement_that_a_change_of_its_table_broke_works_again_once_prepared_anew() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.query("create table shelf (a int); insert into shelf values (1)").ok();
        assert_eq!(client.parse("look", "select * from shelf").sync().reply().shape(), "1Z");
        assert_eq!(client.bind("look", &[]).execute().sync().reply().value(), "1");
        client.query("alter table shelf alter a type text").ok();
        let broken = client.bind("look", &[]).execute().sync().reply();
        assert_eq!(broken.error().code(), "0A000");
        client.say(frontend::close(b'S', "look")).parse("look", "select * from shelf");
        assert_eq!(client.bind("look", &[]).execute().sync().reply().shape(), "312DCZ");
    });
}

#[test]
fn a_statement_that_only_gets_described_works_again_after_its_table_changed() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.query("create table shelf (a int); insert into shelf values (1)").ok();
        let look = |client: &mut RawClient| client.say(frontend::describe(b'S', "look")).sync().reply();
        assert_eq!(client.parse("look", "select * from shelf").sync().reply().shape(), "1Z");
        assert_eq!(look(&mut client).shape(), "tTZ");
        client.query("alter table shelf alter a type text").ok();
        assert_eq!(look(&mut client).error().code(), "0A000");
        client.say(frontend::close(b'S', "look")).parse("look", "select * from shelf");
        assert_eq!(look(&mut client).shape(), "31tTZ");
    });
}

#[test]
fn an_encoding_is_reported_by_its_name_however_the_client_spells_it() {
    everywhere(|site| {
        for (spelled, name) in [("utf-8", "UTF8"), ("utf_8", "UTF8"), ("euc-jp", "EUC_JP")] {
            let mut client = site.client_with(&[("client_encoding", spelled)]);
            assert_eq!(client.parameter("client_encoding"), Some(name));
            assert_eq!(client.query("show client_encoding").ok().value(), name);
        }
    });
}

/// Asks for `select * from shelf` under this name as a driver does, in one request: the columns' types, or the error.
fn prepare_and_describe(client: &mut RawClient, name: &str) -> integration_tests::Reply {
    client.parse(name, "select * from shelf").say(frontend::describe(b'S', name)).sync().reply()
}

#[test]
fn what_is_prepared_anew_after_a_change_of_its_table_never_fails() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("create table shelf (a int); insert into shelf values (1)").ok();
        for name in ["a", "b"] {
            for client in [&mut client, &mut other] {
                assert_eq!(prepare_and_describe(client, name).shape(), "1tTZ");
                assert_eq!(client.bind(name, &[]).execute().sync().reply().shape(), "2DCZ");
            }
            // By another client, in a transaction, and pipelined in front of the Parse.
            other.query("begin; alter table shelf alter a type text").ok();
            assert_eq!(prepare_and_describe(&mut other, "within").shape(), "1tTZ");
            other.query("rollback").ok();
            assert_eq!(prepare_and_describe(&mut other, "after").shape(), "1tTZ");
            other.query("deallocate all").ok();
            other.query("alter table shelf alter a type bigint").ok();
            assert_eq!(client.parse("anew", "select * from shelf").sync().reply().shape(), "1Z");
            assert_eq!(client.bind("anew", &[]).execute().sync().reply().shape(), "2DCZ");
            client.parse("", "alter table shelf alter a type int").bind("", &[]).execute();
            client.parse("piped", "select * from shelf").bind("piped", &[]).execute().sync();
            assert_eq!(client.reply().shape(), "12C12DCZ");
            client.query("deallocate all").ok();
        }
    });
}

#[test]
fn a_change_past_the_proxy_is_met_by_sending_the_request_once_more() {
    everywhere_transactional(|site| {
        let (mut client, mut beside) = (site.client(), Cluster::shared().connect(&site.database));
        beside.query("create table shelf (a int); insert into shelf values (1); grant all on shelf to public").ok();
        for kind in ["text", "bigint", "int"] {
            assert_eq!(prepare_and_describe(&mut client, "look").shape(), "1tTZ");
            assert_eq!(client.bind("look", &[]).execute().sync().reply().value(), "1");
            client.say(frontend::close(b'S', "look")).sync().reply().ok();
            beside.query(format!("alter table shelf alter a type {kind} using a::{kind}")).ok();
            // The copy that the server has is out of date, and the client, which has none, is not told of it.
            let again = client.parse("look", "select * from shelf").bind("look", &[]).execute().sync().reply();
            assert_eq!((again.shape().as_str(), again.value().as_str()), ("12DCZ", "1"), "{kind}");
            // A statement that the client had before is out of date for it too.
            beside.query("alter table shelf alter a type varchar using a::varchar").ok();
            assert_eq!(client.bind("look", &[]).execute().sync().reply().error().code(), "0A000", "{kind}");
            client.say(frontend::close(b'S', "look")).sync().reply().ok();
            // What fails for good is told once.
            beside.query("alter table shelf rename to gone").ok();
            assert_eq!(prepare_and_describe(&mut client, "look").error().code(), "42P01", "{kind}");
            beside.query("alter table gone rename to shelf").ok();
        }
    });
}

#[test]
fn statements_that_something_unseen_took_away_are_there_again() {
    let inspected = |pool: &mut config::Pool| pool.inspect_functions = Some(std::time::Duration::from_secs(3600));
    let site = Site::behind(PoolMode::Transaction, |proxy| proxy.size(1).pool(inspected));
    site.run_directly("create function known() returns void language sql as $$ select setseed(0) $$").ok();
    let (mut client, mut other) = (site.client(), site.client());
    client.query("select 1").ok();
    let found = |line: &str| line.starts_with("pgweir_pool_suspects{") && !line.ends_with(" 0");
    eventually("functions have been looked at", || http::fetch(site.admin(), "/metrics").body.lines().any(found));
    // Made past the proxy after that look, so that nobody knows what it does.
    site.run_directly(
        "create function forget() returns void language plpgsql as $$ begin execute 'deallocate all'; end $$",
    )
    .ok();
    client.parse("one", "select 'one'").parse("two", "select 'two'").parse("three", "select 'three'").sync();
    assert_eq!(client.reply().shape(), "111Z");
    let run = |client: &mut RawClient, name: &str| client.bind(name, &[]).execute().sync().reply();
    for _ in 0..3 {
        assert_eq!(run(&mut client, "one").value(), "one");
        other.query("select forget()").ok();
        // Sent again, and nothing is seen of it: a Bind, and a Describe before it.
        assert_eq!(
            (run(&mut client, "one").shape().as_str(), run(&mut client, "two").value().as_str()),
            ("2DCZ", "two")
        );
        other.query("select forget()").ok();
        let described = client.say(frontend::describe(b'S', "two")).bind("two", &[]).execute().sync().reply();
        assert_eq!(described.shape(), "tT2DCZ");
        // In a transaction, and in a pipeline, it is told by the client's own name, once.
        run(&mut client, "three").ok();
        other.query("select forget()").ok();
        client.query("begin").ok();
        let error = run(&mut client, "three");
        assert_eq!(error.error().code(), "26000", "{error:?}");
        assert_eq!(error.error().message(), "prepared statement \"three\" does not exist");
        client.query("rollback").ok();
        for name in ["one", "two", "three"] {
            assert_eq!(run(&mut client, name).value(), name);
        }
        other.query("select forget()").ok();
        client.bind("two", &[]).execute().sync().bind("one", &[]).execute().sync();
        assert_eq!(client.reply().error().message(), "prepared statement \"two\" does not exist");
        assert_eq!(client.reply().error().message(), "prepared statement \"one\" does not exist");
        assert_eq!(
            (run(&mut client, "one").value().as_str(), run(&mut client, "two").value().as_str()),
            ("one", "two")
        );
    }
}

#[test]
fn rows_are_never_told_apart_by_a_description_from_before_a_change() {
    let site = Site::pooled(PoolMode::Transaction, 2);
    let (mut client, mut other) = (site.client(), site.client());
    client.query("create table shelf (a int, b int); insert into shelf values (1, 2)").ok();
    let run = |client: &mut RawClient, name: &str| client.bind(name, &[]).execute().sync().reply();
    assert_eq!(prepare_and_describe(&mut client, "look").shape(), "1tTZ");
    client.parse("keep", "select a from shelf where a = $1").say(frontend::describe(b'S', "keep")).sync().reply().ok();
    client.parse("blind", "select *, 1 as one from shelf").sync().reply().ok();
    client.query("alter table shelf alter b type text").ok();
    // The client's next server is one that holds none of its statements, and knows no before: another client has the one
    // that it had.
    let had = client.query("select pg_backend_pid()").value();
    eventually("another client has it", || {
        let has = other.query("begin; select pg_backend_pid()").value();
        has == had || other.query("rollback").rows().len() > 1
    });
    for _ in 0..2 {
        let refused = run(&mut client, "look");
        assert_eq!((refused.shape().as_str(), refused.error().code()), ("EZ", "0A000"));
        assert_eq!(refused.error().message(), "cached plan must not change result type");
    }
    let described = client.say(frontend::describe(b'S', "look")).sync().reply();
    assert_eq!(described.error().code(), "0A000");
    // In a transaction it fails like any other statement.
    client.query("begin").ok();
    assert_eq!(run(&mut client, "look").error().code(), "0A000");
    assert_eq!(client.query("select 1").error().code(), "25P02");
    client.query("rollback").ok();
    // What is the same goes on, and what nobody was told of cannot be mistaken.
    assert_eq!(client.bind("keep", &["1"]).execute().sync().reply().value(), "1");
    assert_eq!(run(&mut client, "blind").shape(), "2DCZ");
    // Prepared anew it is another statement.
    client.say(frontend::close(b'S', "look")).sync().reply().ok();
    assert_eq!(prepare_and_describe(&mut client, "look").shape(), "1tTZ");
    assert_eq!(run(&mut client, "look").shape(), "2DCZ");
}
