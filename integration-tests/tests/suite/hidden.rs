//! Texts that do more than they seem to: what they leave behind meets nobody else, whichever way they were read.

use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::{RawClient, Site, eventually, frontend, http};

const SCHEMA: &str = "create schema tenant_b; create table log (n int)";

/// With one server connection, so that whoever comes next gets the same.
fn site() -> Site {
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(1).pool(|pool| pool.inspect_functions = Some(Duration::from_millis(200)))
    });
    site.run_directly(SCHEMA).ok();
    site
}

/// What the next ones find: one that wants what the last one may have left, and one that wants nothing.
fn nobody_is_met(site: &Site, left: &str) {
    let mut wants = site.client();
    wants.query("set search_path to tenant_b").ok();
    wants.query("set role.name to 'mine'").ok();
    for _ in 0..2 {
        assert_eq!(wants.query("show search_path").value(), "tenant_b", "behind {left}");
        assert_eq!(wants.query("show role.name").value(), "mine", "behind {left}");
    }
    let mut next = site.client();
    assert_eq!(next.query("show search_path").value(), "\"$user\", public", "behind {left}");
    assert_eq!(next.query("select coalesce(current_setting('role.name', true), '')").value(), "", "behind {left}");
    let temporary = "select count(*) from pg_class where relpersistence = 't'";
    assert_eq!(next.query(temporary).value(), "0", "behind {left}");
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(next.query(locks).value(), "0", "behind {left}");
    let prepared = "select count(*) from pg_prepared_statements where name = 'transaction'";
    assert_eq!(next.query(prepared).value(), "0", "behind {left}");
}

#[test]
fn what_hides_in_a_text_is_left_to_nobody() {
    let site = site();
    for sql in [
        // Spellings of true.
        "select set_config('search_path', 'tenant_b', 'tru')",
        "select set_config('search_path', 'tenant_b', ' Y ')",
        // A statement that is called so.
        "begin; set search_path to tenant_b; prepare transaction as select 1; rollback",
        // Names that are written by numbers of characters.
        "set search_path to tenant_b; reset U&\"search!005fpath\" uescape '!'",
        "select U&\"set_config\" uescape '!' ('search_path', 'tenant_b', false)",
        "select U&\"pg_catalog\".set_config('search_path', 'tenant_b', false)",
        "begin; set search_path to tenant_b; savepoint U&\"!0061\" uescape '!'; rollback to a; commit",
        // Tables of the session.
        "(select 1 as id into temp users)",
        "select 1 as into, 2 as b into temp t",
        "with a as (insert into log values (1) returning 1 as x) select x into temp t from a",
        "explain analyze select 1 as a into temp t",
        "create temp table t as select commit drop from (select 1 as commit) s",
        // EXPLAIN that runs.
        "explain (analyze 1) select set_config('search_path', 'tenant_b', false)",
        "explain (\"analyze\") select pg_advisory_lock(1)",
        // What seems to be a function's body.
        "create or replace view v as select begin atomic from (select 1 as begin) s; set search_path to tenant_b",
        "create or replace function f() returns int language sql begin atomic select 1 as case; end; \
         set search_path to tenant_b",
        "create or replace function f() returns int language sql begin atomic select 1 case; end; \
         set search_path to tenant_b",
        // A text that runs a text.
        "select query_to_xml('select set_config(''search_path'', ''tenant_b'', false)', true, true, '')",
        // Settings whose names begin with a word of SET.
        "set role.name = 'left'",
        "set local session characteristics as transaction read only; set role.name = 'left'",
        "prepare p as select set_config('search_path', 'tenant_b', false); execute p; deallocate p",
    ] {
        let mut client = site.client();
        let reply = client.query(sql);
        assert!(reply.errors().is_empty(), "{sql}: {reply:?}");
        client.terminate();
        nobody_is_met(&site, sql);
    }
}

/// A boolean in binary format is true whatever byte it is, but for zero.
#[test]
fn a_boolean_is_read_in_its_format() {
    let site = site();
    let sql = "select set_config('search_path', 'tenant_b', $1)";
    for byte in [1_u8, 2, b'f', b'0'] {
        let mut client = site.client();
        client
            .say(frontend::parse("", sql, &[16]))
            .say(frontend::bind_as("", "", &[(1, Some(&[byte]))], &[]))
            .execute()
            .sync();
        let reply = client.reply();
        assert!(reply.errors().is_empty(), "{byte}: {reply:?}");
        client.terminate();
        nobody_is_met(&site, &format!("byte {byte}"));
    }
}

/// `pg_depend` knows nothing of the server's own functions.
#[test]
fn a_view_that_sets_something_by_itself_is_known() {
    let site = site();
    site.run_directly(
        "create view quiet as select set_config('search_path', 'tenant_b', false) as x;
         create table written (n text default set_config('search_path', 'tenant_b', false))",
    )
    .ok();
    let suspects = || {
        let text = http::fetch(site.admin(), "/metrics").body;
        let line = text.lines().find(|line| line.starts_with("pgweir_pool_suspects")).map(str::to_owned);
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
    };
    let mut client: RawClient = site.client();
    eventually("the view has been looked at", || {
        client.query("select 1").ok();
        suspects() >= 2.0
    });
    client.terminate();
    for sql in ["select * from quiet", "insert into written default values"] {
        let mut client = site.client();
        client.query(sql).ok();
        client.terminate();
        nobody_is_met(&site, sql);
    }
}
