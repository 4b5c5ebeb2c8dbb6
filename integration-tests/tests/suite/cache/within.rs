//! Reads in transactions, as web frameworks and PostgREST send them: answered from the cache as long as nothing in the
//! transaction makes them see something of their own.

use std::sync::Once;
use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::patience::PATIENCE;
use integration_tests::{Cluster, RawClient, Reply, Site, frontend};

use super::ways::{Pair, Question, Way};
use super::{Ground, Random, duration, extended, seed, settings};

const TENANTS: usize = 3;

/// Roles and schemas; each row says for whom it is.
fn postgrest() -> Ground {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut sql = "create role authenticator login noinherit;".to_owned();
        for n in 0..TENANTS {
            sql += &format!("create role web_{n}; grant web_{n} to authenticator;");
        }
        Cluster::shared().run("postgres", &sql);
    });
    let mut sql = String::new();
    for schema in ["api_0", "api_1"] {
        sql += &format!(
            "create schema {schema}; grant usage on schema {schema} to public;
             create table {schema}.items (place text, role text, tenant text, n int);
             insert into {schema}.items select '{schema}', 'web_' || r, 'tenant_' || t, n
                from generate_series(0, {TENANTS} - 1) r, generate_series(0, {TENANTS} - 1) t, generate_series(1, 2) n;
             alter table {schema}.items enable row level security; grant select on {schema}.items to public;
             create policy own on {schema}.items using (role = current_user
                and tenant = (current_setting('request.jwt.claims', true)::json ->> 'tenant'));"
        );
    }
    Ground::new(&sql)
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Asker {
    schema: usize,
    role: usize,
    tenant: usize,
}

impl Asker {
    fn at_random(random: &mut Random) -> Self {
        Self { schema: random.below(2), role: random.below(TENANTS), tenant: random.below(TENANTS) }
    }

    /// What the settings of its transaction are.
    fn values(self) -> [String; 5] {
        [
            format!("api_{}, public", self.schema),
            format!("web_{}", self.role),
            format!("{{\"role\":\"web_{}\",\"tenant\":\"tenant_{}\"}}", self.role, self.tenant),
            "GET".to_owned(),
            "/items".to_owned(),
        ]
    }

    fn sees(self, reply: &Reply) {
        let row = |n: &str| {
            vec![
                format!("api_{}", self.schema),
                format!("web_{}", self.role),
                format!("tenant_{}", self.tenant),
                n.into(),
            ]
        };
        assert_eq!(reply.rows(), [row("1"), row("2")], "{self:?}");
        assert_eq!(reply.status(), 'T', "{self:?}");
    }
}

const SET: &str = "select set_config('search_path', $1, true), set_config('role', $2, true), \
    set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true), set_config('request.path', $5, true)";
const READ: &str = "select place, role, tenant, n from items order by n";
const READ_SOME: &str = "select place, role, tenant, n from items where n <= $1 order by n";
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";

/// A client of PostgREST's own: what it prepares it prepares once.
struct Caller {
    client: RawClient,
    prepared: bool,
}

impl Caller {
    fn new(ground: &Ground) -> Self {
        Self { client: ground.client_of("authenticator"), prepared: false }
    }

    fn simple(&mut self, asker: Asker) -> Reply {
        self.client.query(BEGIN).ok();
        self.set_simply(asker);
        let reply = self.client.query(READ).ok();
        self.client.query("COMMIT").ok();
        reply
    }

    fn set_simply(&mut self, asker: Asker) {
        let mut sql = SET.to_owned();
        for (at, value) in asker.values().iter().enumerate() {
            sql = sql.replace(&format!("${}", at + 1), &format!("'{value}'"));
        }
        self.client.query(sql).ok();
    }

    /// As hasql does it: all of it prepared, each where it is first needed.
    fn prepared(&mut self, asker: Asker) -> Reply {
        let first = !std::mem::replace(&mut self.prepared, true);
        let values = asker.values();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut run = |name: &str, sql: &str, parameters: &[&str]| {
            if first {
                self.client.parse(name, sql);
            }
            self.client.bind(name, parameters).execute().sync().reply().ok()
        };
        run("begin", BEGIN, &[]);
        run("set", SET, &values);
        let reply = run("read", READ_SOME, &["2"]);
        run("commit", "COMMIT", &[]);
        reply
    }

    fn unnamed(&mut self, asker: Asker) -> Reply {
        let values = asker.values();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        extended(&mut self.client, BEGIN, &[]).reply().ok();
        extended(&mut self.client, SET, &values).reply().ok();
        let reply = extended(&mut self.client, READ, &[]).reply().ok();
        extended(&mut self.client, "COMMIT", &[]).reply().ok();
        reply
    }
}

#[test]
fn postgrests_own_sequence_is_answered_from_the_cache() {
    let ground = postgrest();
    let mut caller = Caller::new(&ground);
    let askers =
        [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)].map(|(schema, role, tenant)| Asker { schema, role, tenant });
    for _ in 0..2 {
        for asker in askers {
            asker.sees(&ground.until_hit(|| caller.simple(asker)));
            asker.sees(&ground.until_hit(|| caller.prepared(asker)));
            asker.sees(&ground.until_hit(|| caller.unnamed(asker)));
        }
    }
}

#[test]
fn random_askers_in_transactions_see_nothing_foreign() {
    let ground = postgrest();
    let asker = Asker { schema: 0, role: 0, tenant: 0 };
    asker.sees(&ground.until_hit(|| Caller::new(&ground).simple(asker)));
    let before = ground.hits();
    let (seed, end) = (seed(), Instant::now() + duration());
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let ground = &ground;
            scope.spawn(move || {
                let mut random = Random(seed ^ (thread + 21).wrapping_mul(0xd6e8_feb8_6659_fd93));
                let mut callers = [Caller::new(ground), Caller::new(ground)];
                let last = end + 3 * PATIENCE;
                let mut flushed = before;
                while Instant::now() < end || ground.hits() < before + 100 && Instant::now() < last {
                    let asker = Asker::at_random(&mut random);
                    let caller = &mut callers[random.below(2)];
                    match random.below(8) {
                        0 | 1 => asker.sees(&caller.simple(asker)),
                        2 | 3 => asker.sees(&caller.prepared(asker)),
                        4 | 5 => asker.sees(&caller.unnamed(asker)),
                        6 => wanders(caller, asker, &mut random),
                        // Where something has come of the last one: a catalog that ends before it is read is of no use.
                        _ if ground.hits() > flushed + 10 && random.once_in(5) => {
                            ground.caches().flush();
                            flushed = ground.hits();
                        }
                        _ => asker.sees(&caller.prepared(asker)),
                    }
                }
            });
        }
    });
    let hits = ground.hits() - before;
    println!("{hits} hits; {}", ground.why());
    assert!(hits >= 100, "hardly anything came from the cache: {}", ground.why());
}

/// One transaction, several askers one behind the other, and back by savepoints.
fn wanders(caller: &mut Caller, first: Asker, random: &mut Random) {
    caller.client.query("begin").ok();
    caller.set_simply(first);
    for _ in 0..=random.below(3) {
        let other = Asker::at_random(random);
        caller.client.query("savepoint s").ok();
        // SET LOCAL of some of them, in place of a call.
        if random.once_in(2) {
            let [path, role, claims, ..] = other.values();
            caller.client.query(format!("set local search_path = {path}")).ok();
            caller.client.query(format!("set local role {role}; set local request.jwt.claims = '{claims}'")).ok();
        } else {
            caller.set_simply(other);
        }
        other.sees(&caller.client.query(READ).ok());
        caller.client.query(*random.pick(&["rollback to s", "rollback to savepoint s; release s"])).ok();
        first.sees(&caller.client.query(READ).ok());
    }
    if random.once_in(3) {
        caller.client.query("select 1 / 0").error();
        assert_eq!(caller.client.query(READ).error().code(), "25P02");
    }
    caller.client.query(*random.pick(&["commit", "rollback"])).ok();
}

const ITEMS: &str = "create table items (id int primary key, name text); insert into items values (1, 'one'), (2, 'two');
    create table others (id int); insert into others values (1);
    create function own() returns int language plpgsql as $$ begin perform set_config('app.x', 'y', true); return 1; end $$;
    create view calling as select own() as n";
const ONE: &str = "select name from items where id = 1";

/// Asked in transactions that begin so, until the answer comes from the cache; the transaction stays open.
fn hit_behind(ground: &Ground, client: &mut RawClient, begin: &[&str]) {
    let reply = ground.until_hit(|| {
        client.query("rollback").ok();
        begin.iter().for_each(|sql| drop(client.query(sql).ok()));
        client.query(ONE).ok()
    });
    assert_eq!((reply.status(), reply.value().as_str()), ('T', "one"), "behind {begin:?}");
}

#[test]
fn what_leaves_nothing_behind_lets_reads_be_answered() {
    let ground = Ground::new(ITEMS);
    let mut client = ground.client();
    for begin in [
        &["begin"][..],
        &["begin isolation level read committed read only"],
        &["start transaction isolation level read uncommitted"],
        &["begin; set local search_path = public; set local app.x = 'y'"],
        &["begin", "set transaction isolation level read committed"],
        &["begin", "savepoint s", "set local app.x = 'z'", "rollback to s", "release s"],
        &["begin", "select now(), id from others", "select count(*) from pg_class", "show search_path"],
        &[
            "begin",
            "select set_config('app.x', 'y', true), set_config('role', 'none', true), set_config('a.b', '', true)",
        ],
    ] {
        hit_behind(&ground, &mut client, begin);
        let (reply, hit) = ground.asked(|| client.query(ONE).ok());
        assert!(hit && reply.value() == "one", "a second time behind {begin:?}: {}", ground.why());
    }
    client.query("rollback").ok();
}

#[test]
fn what_leaves_something_behind_sends_the_rest_to_the_server() {
    let ground = Ground::new(ITEMS);
    let mut client = ground.client();
    for step in [
        "update items set name = 'mine' where id = 1",
        "insert into others values (2)",
        "with gone as (delete from others returning id) select id from gone",
        "select id from items where id = 2 for update",
        "select id from items where id = 2 for key share",
        "select pg_advisory_xact_lock(1)",
        "lock table others in share mode",
        "select own()",
        "select n from calling",
        "do $$ begin perform 1; end $$",
        "declare c cursor for select id from items",
        "select set_config('app.x', name, true) from items",
        "set local client_encoding = 'LATIN1'",
        "set local DateStyle = 'German'",
        "reset all",
        "copy others to stdout",
    ] {
        hit_behind(&ground, &mut client, &["begin"]);
        client.query(step).ok();
        let mine = if step.starts_with("update") { "mine" } else { "one" };
        ground.never_cached(step, || assert_eq!(client.query(ONE).value(), mine));
        client.query("savepoint s").ok();
        client.query("rollback to s").ok();
        ground.never_cached(step, || assert_eq!(client.query(ONE).value(), mine));
        client.query("rollback").ok();
    }
    hit_behind(&ground, &mut client, &["begin"]);
    client.query("rollback").ok();
    // What is sent together with BEGIN is within the transaction.
    client.parse("", "update items set name = 'mine' where id = 1").bind("", &[]).execute();
    client.parse("", "begin").bind("", &[]).execute().sync().reply().ok();
    ground.never_cached("before BEGIN, in one request", || assert_eq!(client.query(ONE).value(), "mine"));
    client.query("rollback").ok();
    assert_eq!(client.query(ONE).value(), "one");
}

#[test]
fn a_level_that_is_not_read_committed_sees_its_own_snapshot() {
    let ground = Ground::new(ITEMS);
    let (mut client, mut writer) = (ground.client(), ground.client());
    let mut name = ground.cached(&mut writer, ONE).value();
    for (n, begin) in [
        &["begin isolation level repeatable read"][..],
        &["begin transaction read only, isolation level serializable"],
        &["begin", "set transaction isolation level repeatable read"],
        &["begin", "set transaction_isolation = 'serializable'"],
        &["set default_transaction_isolation = 'repeatable read'", "begin"],
        &["begin", "set default_transaction_isolation = 'read committed'"],
        &["set session characteristics as transaction isolation level serializable", "begin"],
        &["set default_transaction_isolation = 'serializable'", "begin", "reset all"],
        &["begin isolation level repeatable read", "commit and chain"],
    ]
    .into_iter()
    .enumerate()
    {
        begin.iter().for_each(|sql| drop(client.query(sql).ok()));
        assert_eq!(client.query(ONE).value(), name);
        let newer = format!("name {n}");
        writer.query(format!("update items set name = '{newer}' where id = 1")).ok();
        assert_eq!(ground.cached(&mut writer, ONE).value(), newer);
        // The one that is READ COMMITTED by its session's own word sees the write; none is answered by the cache's word.
        let wanted = if begin.len() == 2 && begin[1].starts_with("set default") { &newer } else { &name };
        ground.never_cached(&format!("{begin:?}"), || assert_eq!(&client.query(ONE).value(), wanted, "{begin:?}"));
        client.query("rollback").ok();
        client.query("reset default_transaction_isolation").ok();
        name = newer;
    }
}

#[test]
fn a_transaction_reads_what_others_have_committed_meanwhile() {
    let ground = Ground::new(ITEMS);
    let (mut client, mut writer) = (ground.client(), ground.client());
    hit_behind(&ground, &mut client, &["begin"]);
    writer.query("begin; update items set name = 'newer' where id = 1").ok();
    assert_eq!(client.query(ONE).value(), "one");
    writer.query("commit").ok();
    assert_eq!(client.query(ONE).value(), "newer");
    // Kept by the transaction's own reading: it is as good for anybody.
    let (reply, hit) = ground.asked(|| writer.query(ONE).ok());
    assert!(hit && reply.value() == "newer" && reply.status() == 'I', "{}", ground.why());
    client.query("commit").ok();
}

#[test]
fn settings_of_a_transaction_end_with_it_and_with_its_savepoints() {
    let ground = Ground::new(
        "create schema a; create schema b; create table a.items as select 'of a' as owner, 0.1::float8 + 0.2 as x;
         create table b.items as select 'of b' as owner, 0.1::float8 + 0.2 as x",
    );
    ground.cached(&mut ground.client(), "select owner from a.items");
    let mut pair = Pair::new(&ground, "postgres", &[("search_path", "a")]);
    let question = Question::of("select owner, x from items", 2);
    let before = ground.hits();
    for _ in 0..3 {
        for way in [Way::Simple, Way::Described, Way::Named, Way::NamedBinary] {
            for steps in [
                &["begin", "set local search_path = b", "savepoint s", "set local search_path = a", "rollback to s"][..],
                &["begin", "savepoint s", "set local extra_float_digits = -5", "release s", "savepoint s"],
                &["begin", "savepoint s", "select set_config('search_path', 'b', true)", "rollback to s", "commit"],
                &["begin", "savepoint s", "set search_path = b", "savepoint t", "rollback to s", "rollback"],
                &["begin", "set local search_path = b", "set search_path = a", "rollback"],
                &["begin", "set local search_path = b", "set local search_path to default", "commit"],
            ] {
                for step in steps {
                    pair.run(step);
                    pair.ask(&question, way);
                }
                pair.run("rollback");
                pair.ask(&question, way);
            }
        }
    }
    assert!(ground.hits() > before + 20, "{}", ground.why());
}

#[test]
fn a_client_that_is_answered_from_the_cache_is_not_idle() {
    let limit = Duration::from_millis(1_500);
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(4).with(|all| all.cache = settings());
        proxy.pool(|pool| pool.idle_in_transaction_timeout = limit)
    });
    Cluster::shared().run(&site.database, ITEMS);
    Cluster::shared().run(
        &site.database,
        &format!("alter database \"{}\" set idle_in_transaction_session_timeout = '1500ms'", site.database),
    );
    let ground = Ground { site };
    let mut client = ground.client();
    hit_behind(&ground, &mut client, &["begin"]);
    let (end, before) = (Instant::now() + 2 * limit, ground.hits());
    while Instant::now() < end {
        assert_eq!(client.query(ONE).ok().status(), 'T');
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(ground.hits() > before + 10, "{}", ground.why());
    // And one that says nothing is ended all the same.
    let end = client.read_to_end();
    assert!(end.errors().iter().any(|error| error.code() == "25P03"), "{end:?}");
}

#[test]
fn a_portal_that_an_answer_has_replaced_is_not_gone_on_with() {
    let ground = Ground::new(ITEMS);
    let mut client = ground.client();
    hit_behind(&ground, &mut client, &["begin"]);
    ground.until_hit(|| {
        // Bound and not run: the next one takes its place.
        client.parse("", "select 'old' from others").bind("", &[]).sync().reply().ok();
        extended(&mut client, ONE, &[]).reply().ok()
    });
    let reply = client.say(frontend::execute("", 0)).sync().reply();
    assert_eq!(reply.error().code(), "34000", "{reply:?}");
    client.query("rollback").ok();
}

#[test]
fn what_was_prepared_in_a_transaction_is_answered_in_the_next_one() {
    let ground = Ground::new(ITEMS);
    let mut client = ground.client();
    client.query("begin").ok();
    client.query("set local app.tenant = 'a'").ok();
    client.parse("named", "select name from items where name = 'one' and id = $1").sync().reply().ok();
    client.query("commit").ok();
    let reply = ground.until_hit(|| {
        client.query("begin; set local app.tenant = 'a'").ok();
        let reply = client.bind("named", &["1"]).execute().sync().reply().ok();
        client.query("commit").ok();
        reply
    });
    assert_eq!((reply.value().as_str(), reply.status()), ("one", 'T'));
    assert_eq!(client.bind("named", &["1"]).execute().sync().reply().value(), "one");
}
