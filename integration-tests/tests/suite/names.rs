//! SQL that names what was prepared by protocol, and how much of it one client may have.

use std::time::Duration;

use config::PoolMode::{Session, Transaction};
use config::{OnUntracked, SessionState, Untracked};
use integration_tests::{RawClient, Site, everywhere, everywhere_transactional, frontend, http};

const NAMES: &str = "select name from pg_prepared_statements order by prepare_time";

fn names(client: &mut RawClient) -> String {
    client.query(NAMES).ok().rows().concat().join(" ")
}

fn prepare(client: &mut RawClient, name: &str, sql: &str) {
    assert_eq!(client.parse(name, sql).sync().reply().ok().shape(), "1Z");
}

fn run(client: &mut RawClient, name: &str, parameters: &[&str]) -> integration_tests::Reply {
    client.bind(name, parameters).execute().sync().reply()
}

/// One server; whoever waits for it gives up soon.
fn site(answer: OnUntracked) -> Site {
    Site::behind(Transaction, |proxy| {
        proxy.size(1).pool(|pool| {
            pool.untracked = Untracked::default().with(SessionState::StatementNames, Some(answer));
            pool.queue_timeout = Duration::from_millis(800);
        })
    })
}

#[test]
fn sql_finds_statements_by_the_names_that_their_client_gave() {
    everywhere_transactional(|site| {
        let (mut other, mut client) = (site.client(), site.client());
        prepare(&mut other, "theirs", "select 'theirs'");
        prepare(&mut client, "plus", "select $1::int + 1");
        prepare(&mut client, "hello", "select 'hello ' || $1");
        assert_eq!(names(&mut client), "plus hello");
        let shown = "select statement, parameter_types::text, from_sql from pg_prepared_statements where name = 'plus'";
        assert_eq!(client.query(shown).ok().rows(), [["select $1::int + 1", "{integer}", "f"]]);
        prepare(&mut client, "later", "select 3");
        assert_eq!(names(&mut client), "plus hello later");
        assert_eq!(run(&mut client, "hello", &["you"]).value(), "hello you");
        assert_eq!(client.parse("plus", "select 1").sync().reply().error().code(), "42P05");
        client.query("select 1; deallocate hello").ok();
        client.say(frontend::close(b'S', "plus")).sync().reply().ok();
        assert_eq!(names(&mut client), "later");
        client.query("deallocate all").ok();
        assert_eq!(names(&mut client), "");
        client.terminate();
        assert_eq!(run(&mut other, "theirs", &[]).value(), "theirs");
        assert_eq!(names(&mut other), "theirs");
    });
}

#[test]
fn sql_runs_what_was_prepared_by_protocol() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        prepare(&mut client, "plus", "select $1::int + 1 as sum");
        assert_eq!(client.query("execute plus(41)").ok().value(), "42");
        client.query("deallocate all").ok();
        prepare(&mut client, "plus", "select $1::int + 1 as sum");
        assert!(client.query("explain execute plus(1)").ok().value().starts_with("Result"));
        client.query("discard all").ok();
        prepare(&mut client, "plus", "select $1::int + 1 as sum");
        // As asyncpg does: the result is described before it is run.
        let described = client.parse("run", "execute plus(1)").say(frontend::describe(b'S', "run")).sync().reply();
        assert_eq!(described.ok().shape(), "1tTZ");
        assert_eq!(run(&mut client, "run", &[]).value(), "2");
        assert_eq!(client.query("prepare plus as select 1").error().code(), "42P05");
        client.query("discard all").ok();
        for _ in 0..2 {
            prepare(&mut client, "again", "select 7");
            client.query("deallocate again; select 1").ok();
        }
        assert_eq!(client.query("execute again").error().code(), "26000");
    });
}

#[test]
fn a_pipeline_may_prepare_and_look_at_once() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        let count = "select count(*) from pg_prepared_statements";
        client.parse("one", "select 1").bind("one", &[]).execute();
        client.parse("", count).bind("", &[]).execute();
        client.parse("count", count).bind("count", &[]).execute().sync();
        let reply = client.reply().ok();
        assert_eq!(
            (reply.shape().as_str(), reply.rows().concat()),
            ("12DC12DC12DCZ", vec!["1".into(), "1".into(), "2".into()])
        );
        client.query("begin").ok();
        prepare(&mut client, "three", "select 3");
        assert_eq!(run(&mut client, "count", &[]).value(), "3");
        client.query("commit").ok();
    });
}

#[test]
fn a_pipeline_may_look_behind_a_parse_of_what_its_server_has_already() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        prepare(&mut client, "a", "select 1");
        client.say(frontend::close(b'S', "a")).sync().reply().ok();
        let looks = "select name from pg_prepared_statements";
        let seen = client.parse("a", "select 1").parse("", looks).bind("", &[]).execute().sync().reply();
        assert_eq!(seen.ok().rows(), [["a"]]);
    });
}

#[test]
fn who_has_prepared_nothing_sees_nothing() {
    let site = site(OnUntracked::Pin);
    let (mut client, mut other) = (site.client(), site.client());
    prepare(&mut other, "theirs", "select 1");
    for _ in 0..2 {
        assert_eq!(names(&mut client), "");
        // It keeps no server for having looked.
        assert_eq!(run(&mut other, "theirs", &[]).value(), "1");
    }
    client.query("begin").ok();
    assert_eq!(names(&mut client), "");
    prepare(&mut client, "mine", "select 2");
    assert_eq!(names(&mut client), "mine");
    client.query("rollback").ok();
    assert_eq!(names(&mut client), "mine");
}

#[test]
fn a_client_keeps_its_server_as_long_as_it_has_names_there() {
    let site = site(OnUntracked::Pin);
    let (mut client, mut other) = (site.client(), site.client());
    for gives in ["deallocate all", "discard all", "deallocate mine", "begin; deallocate all; rollback", "close"] {
        prepare(&mut client, "mine", "select 1");
        assert_eq!(other.query("select 'free'").value(), "free", "{gives}");
        assert_eq!(names(&mut client), "mine");
        let shown = http::fetch(site.admin(), "/api/v1/clients").json();
        let pinned = shown["clients"].as_array().unwrap().iter().find(|client| !client["pinned"].is_null()).unwrap();
        assert_eq!(pinned["pinned"], "statement_names", "{shown}");
        assert_eq!(other.query("select 1").error().code(), "53300", "{gives}");
        match gives {
            "close" => drop(client.say(frontend::close(b'S', "mine")).sync().reply().ok()),
            sql => drop(client.query(sql).ok()),
        }
        assert_eq!(other.query("select 'free'").value(), "free", "{gives}");
        assert_eq!(names(&mut other), "", "{gives}");
    }
    let shown = http::fetch(site.admin(), "/api/v1/untracked").json();
    let row = shown["untracked"].as_array().unwrap().iter().find(|row| row["reason"] == "statement_names").unwrap();
    assert_eq!(row["answer"], "pin", "{shown}");
    client.query("select 1").ok();
}

#[test]
fn what_cannot_be_parsed_any_more_hurts_no_transaction() {
    let site = site(OnUntracked::Pin);
    site.run_directly("create table gone (n int)").ok();
    let mut client = site.client();
    prepare(&mut client, "gone", "select n from gone");
    prepare(&mut client, "fine", "select 1");
    site.run_directly("drop table gone").ok();
    client.query("begin; declare c cursor for select generate_series(1, 3); set local app.x = 'kept'").ok();
    assert_eq!(names(&mut client), "fine");
    assert_eq!(client.query("fetch c").ok().value(), "1");
    assert_eq!(client.query("show app.x").ok().value(), "kept");
    assert_eq!(client.parse("gone", "select 1").sync().reply().error().code(), "42P05");
    client.query("rollback").ok();
    client.query("deallocate fine").ok();
    // Nothing is left there, so that it is let go; with a transaction or without, what is broken says why.
    prepare(&mut client, "fine", "select 2");
    assert_eq!(names(&mut client), "fine");
    assert_eq!(run(&mut client, "gone", &[]).error().code(), "42P01");
    assert_eq!(run(&mut client, "fine", &[]).value(), "2");
    site.run_directly("create table gone (n int); insert into gone values (8)").ok();
    assert_eq!(run(&mut client, "gone", &[]).value(), "8");
    assert_eq!(names(&mut client), "fine gone");
}

#[test]
fn what_returns_something_else_by_now_is_refused_by_its_own_name_too() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        other.query("create table shelf (a int); insert into shelf values (1)").ok();
        for (name, sql) in [("look", "select * from shelf"), ("fine", "select 1")] {
            client.parse(name, sql).say(frontend::describe(b'S', name)).sync().reply().ok();
        }
        other.query("alter table shelf alter a type text").ok();
        client.query("begin").ok();
        assert_eq!(names(&mut client), "look fine");
        assert_eq!(run(&mut client, "fine", &[]).value(), "1");
        assert_eq!(run(&mut client, "look", &[]).error().code(), "0A000");
        client.query("rollback").ok();
        assert_eq!(run(&mut client, "look", &[]).error().code(), "0A000");
        client.say(frontend::close(b'S', "look"));
        client.parse("look", "select * from shelf").say(frontend::describe(b'S', "look")).sync().reply().ok();
        assert_eq!(run(&mut client, "look", &[]).value(), "1");
    });
}

#[test]
fn a_name_behind_a_deallocate_in_the_same_request_is_the_new_one() {
    everywhere(|site| {
        let mut client = site.client();
        prepare(&mut client, "old", "select 'old'");
        client.parse("", "deallocate all").bind("", &[]).execute();
        client.parse("new", "select 'new'").bind("new", &[]).execute().sync();
        assert_eq!(client.reply().ok().value(), "new");
        assert_eq!(run(&mut client, "new", &[]).value(), "new");
        assert_eq!(run(&mut client, "old", &[]).error().code(), "26000");
    });
}

#[test]
fn names_are_there_until_the_end_of_the_transaction_where_they_are_not_to_pin() {
    let site = site(OnUntracked::Discard);
    let (mut client, mut other) = (site.client(), site.client());
    prepare(&mut client, "mine", "select 'mine'");
    assert_eq!(names(&mut client), "mine");
    assert_eq!(other.query("select 'free'").value(), "free");
    client.query("begin").ok();
    assert_eq!(client.query("execute mine").ok().value(), "mine");
    prepare(&mut client, "more", "select 'more'");
    assert_eq!(names(&mut client), "mine more");
    client.query("commit").ok();
    assert_eq!(other.query("select 'free'").value(), "free");
    assert_eq!(run(&mut client, "more", &[]).value(), "more");
    assert_eq!(names(&mut other), "");
}

#[test]
fn names_in_sql_are_refused_where_the_pool_says_so() {
    let site = site(OnUntracked::Reject);
    let mut client = site.client();
    prepare(&mut client, "mine", "select 'mine'");
    for sql in [NAMES, "execute mine", "explain execute mine", "select 1; deallocate mine"] {
        let reply = client.query(sql);
        let error = reply.error();
        assert_eq!((error.code(), error.is_whole()), ("0A000", true), "{sql}: {error:?}");
        assert!(error.hint().contains("pool.on_statement_names"), "{error:?}");
    }
    // Of a name that it has not, the server speaks.
    assert_eq!(client.query("execute nobodys").error().code(), "26000");
    assert_eq!(run(&mut client, "mine", &[]).value(), "mine");
    client.query("deallocate mine").ok();
}

#[test]
fn a_client_prepares_as_much_as_it_may_and_no_more() {
    for (mode, count, bytes) in [(Transaction, 2, 16 << 20), (Session, 2, 16 << 20), (Transaction, 99, 1024)] {
        let site = Site::behind(mode, |proxy| {
            proxy.size(1).pool(|pool| {
                pool.max_client_prepared = count;
                pool.max_client_prepared_bytes = bytes;
            })
        });
        let mut client = site.client();
        let text = |n: u32| format!("select {n} /* {} */", "x".repeat(450));
        prepare(&mut client, "one", &text(1));
        prepare(&mut client, "two", &text(2));
        client.query("begin").ok();
        client.parse("", "select 'before'").bind("", &[]).execute();
        client.parse("three", &text(3)).bind("three", &[]).execute().sync();
        let reply = client.reply();
        assert_eq!((reply.shape().as_str(), reply.value().as_str()), ("12DCEZ", "before"));
        let error = reply.error();
        assert_eq!((error.code(), error.is_whole(), reply.status()), ("53400", true, 'E'), "{error:?}");
        client.query("rollback").ok();
        // Without a name as much as it likes; and as soon as one is closed there is room.
        client.parse("", &text(4)).bind("", &[]).execute().sync().reply().ok();
        client.say(frontend::close(b'S', "one")).parse("three", &text(3)).bind("three", &[]).execute().sync();
        assert_eq!(client.reply().ok().value(), "3");
        assert_eq!(run(&mut client, "two", &[]).value(), "2");
    }
}
