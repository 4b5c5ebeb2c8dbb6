//! Changes of the catalog: tables, rights, policies, functions. What was answered before them is not answered behind them.

use integration_tests::{Cluster, RawClient};

use super::{Ground, extended};

/// What is cached, a change of the catalog through the proxy, and what the server says then.
fn follows_catalog(schema: &str, user: &str, read: &str, change: &str) {
    let ground = Ground::new(schema);
    let (mut client, mut admin) = (ground.client_of(user), ground.client());
    let mut direct = RawClient::login(Cluster::shared().address(), user, &ground.site.database);
    let before = ground.cached(&mut client, read);
    admin.query(change).ok();
    let code =
        |reply: &integration_tests::Reply| reply.errors().iter().map(|e| e.code().to_owned()).collect::<Vec<_>>();
    for _ in 0..3 {
        let (here, there) = (client.query(read), direct.query(read));
        assert_eq!((here.rows(), code(&here)), (there.rows(), code(&there)), "behind {change}");
        assert_ne!(here.messages, before.messages, "{change} changes nothing here");
    }
    // By another text, which was prepared before nobody knew of the change.
    let (here, there) = (extended(&mut client, read, &[]).reply(), extended(&mut direct, read, &[]).reply());
    assert_eq!((here.rows(), code(&here)), (there.rows(), code(&there)), "extended, behind {change}");
    if code(&direct.query(read)).is_empty() {
        ground.cached(&mut client, read);
    }
}

/// A role of a test's own: they belong to the whole server.
fn role(name: &str) -> String {
    Cluster::shared().run("postgres", &format!("create role {name} login"));
    name.to_owned()
}

#[test]
fn ddl_ends_answers() {
    let items = "create table items (id int, name text); insert into items values (1, 'one');
        create schema a; create view seen as select id from items; create table others as select 9 as id, 'nine' as name";
    let all = "select * from items";
    for change in [
        "alter table items add column more int default 7",
        "alter table items rename name to title",
        "drop view seen; alter table items alter id type bigint using id + 1",
        "drop table items cascade",
        "begin; drop table items cascade; create table items as select 2 as id; commit",
        "alter table items rename to gone; alter table others rename to items",
        "do $$ begin execute 'alter table items add column more int'; end $$",
        "truncate items",
    ] {
        follows_catalog(items, "postgres", all, change);
    }
    follows_catalog(
        items,
        "postgres",
        "select * from seen",
        "create or replace view seen as select id + 1 as id from items",
    );
    follows_catalog(items, "postgres", "select * from seen", "drop view seen");
    // A table that comes in front of the one that was found.
    let path = "create schema postgres; create table public.items as select 'of public' as owner";
    follows_catalog(
        path,
        "postgres",
        "select owner from items",
        "create table postgres.items as select 'nearer' as owner",
    );
    // A partition that comes, and one that goes.
    let parts =
        "create table parts (id int) partition by list (id); create table one partition of parts for values in (1);
        insert into parts values (1); create table two as select 2 as id";
    follows_catalog(
        parts,
        "postgres",
        "select id from parts order by id",
        "alter table parts attach partition two for values in (2)",
    );
    follows_catalog(parts, "postgres", "select id from parts order by id", "alter table parts detach partition one");
}

#[test]
fn rights_and_policies_end_answers() {
    let name = role("cache_reader");
    let items = format!(
        "create table items (id int, owner text); insert into items values (1, 'a'), (2, 'b');
         grant select on items to {name}; grant create on schema public to public"
    );
    let secured =
        format!("{items}; alter table items enable row level security; create policy p on items using (owner = 'a')");
    let all = "select id from items order by id";
    follows_catalog(&items, &name, all, &format!("revoke select on items from {name}"));
    follows_catalog(&items, &name, all, "alter table items enable row level security");
    follows_catalog(&secured, &name, all, "alter policy p on items using (owner = 'b')");
    follows_catalog(&secured, &name, all, "drop policy p on items");
    follows_catalog(&secured, &name, all, "create policy q on items as restrictive using (owner = 'b')");
    follows_catalog(&secured, &name, all, "alter table items disable row level security");
    // The server checks who may use a schema when it looks a name up.
    let apart = format!(
        "create schema apart; grant usage on schema apart to {name}; create table apart.items as select 1 as id;
         grant select on apart.items to {name}"
    );
    follows_catalog(&apart, &name, "select id from apart.items", &format!("revoke usage on schema apart from {name}"));
    // Rights that come with membership.
    Cluster::shared().run("postgres", &format!("create role cache_readers; grant cache_readers to {name}"));
    let grouped = "create table items (id int); insert into items values (1); grant select on items to cache_readers";
    follows_catalog(grouped, &name, "select id from items", &format!("revoke cache_readers from {name}"));
    follows_catalog(&secured, &name, all, &format!("alter role {name} bypassrls"));
    Cluster::shared().run("postgres", &format!("alter role {name} nobypassrls"));
    // A function that a policy asks.
    let asked = format!(
        "{items}; create function may(owner text) returns bool language sql stable as $$ select owner = 'a' $$;
         alter table items enable row level security; create policy p on items using (may(owner))"
    );
    let change =
        "create or replace function may(owner text) returns bool language sql stable as $$ select owner = 'b' $$";
    follows_catalog(&asked, &name, all, change);
    let listed = format!(
        "{items}; create table allowed (owner text); insert into allowed values ('a'); grant select on allowed to {name};
         alter table items enable row level security;
         create policy p on items using (owner in (select a.owner from allowed a))"
    );
    follows_catalog(&listed, &name, all, "update allowed set owner = 'b'");
}

#[test]
fn a_trigger_that_is_made_later_is_known() {
    let ground = Ground::new("create table runs (id int); create table log (id int); insert into runs values (1)");
    let (mut client, mut admin) = (ground.client(), ground.client());
    ground.cached(&mut client, "select id from log");
    admin
        .query(
            "create function note() returns trigger language plpgsql as
                $$ begin insert into log values (new.id); return new; end $$;
             create trigger t after insert on runs for each row execute function note()",
        )
        .ok();
    ground.cached(&mut client, "select id from log");
    admin.query("insert into runs values (2)").ok();
    assert_eq!(client.query("select id from log").rows(), [["2"]]);
    // At once: before the catalog can have been read anew.
    for n in 3..8 {
        ground.cached(&mut client, "select id from log");
        let sql = format!(
            "create or replace function note() returns trigger language plpgsql as
                $$ begin insert into log values (new.id + {n}); return new; end $$"
        );
        admin.query(sql).ok();
        admin.query("insert into runs values (0)").ok();
        let rows = client.query("select id from log").rows();
        assert_eq!(rows, ground.direct().query("select id from log").rows());
    }
}
