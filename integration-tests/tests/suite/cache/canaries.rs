//! Tenant canaries: every row carries its tenant, and whoever asks gets to see what the server itself shows to a session of
//! the same state, to the last byte. Who is asked for changes all the time, in all the ways that a session has to say it.

use std::sync::Once;
use std::time::Instant;

use integration_tests::patience::PATIENCE;
use integration_tests::{Cluster, RawClient, eventually};

use super::ways::{INT4, Pair, Question, Way};
use super::{Ground, Random, duration, seed};

const TENANTS: usize = 4;

/// Tenants are roles, schemas and values of settings at once.
const SCHEMA: &str = "
    create function tenant() returns text language sql stable as $$ select current_setting('app.tenant_id', true) $$;
    create function become(who text) returns text language plpgsql as
        $$ begin perform set_config('app.tenant_id', who, true); return who; end $$;
    create table members (who text, tenant text);
    grant select on members to public";

/// Tables and whom their policies show which rows.
const TABLES: [(&str, &str); 6] = [
    ("guarded", "tenant = current_setting('app.tenant_id', true)"),
    ("claims", "tenant = (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'tenant')"),
    ("owned", "tenant = current_user"),
    ("functional", "tenant = tenant()"),
    ("shared", "tenant in (select m.tenant from members m where m.who = current_user)"),
    ("either", "tenant = current_user or tenant = nullif(current_setting('app.tenant_id', true), '')"),
];

const ROWS: &str = "(tenant text, n int, x float8, raw bytea, at timestamptz, note text, took interval)";

fn roles() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut sql = "create role canary login;".to_owned();
        for n in 0..TENANTS {
            sql += &format!("create role canary_{n}; grant canary_{n} to canary;");
        }
        Cluster::shared().run("postgres", &sql);
    });
}

fn schema() -> String {
    let rows = |tenant: &str| {
        format!(
            r"select '{tenant}', n, 0.1::float8 + n / 3.0::float8, '\x00ff61'::bytea, '2026-11-29 12:00+00'::timestamptz,
              'é of {tenant}', '1 day 02:03'::interval from generate_series(1, 3) n"
        )
    };
    let mut sql = format!("{SCHEMA};");
    for (table, policy) in TABLES {
        sql += &format!(
            "create table {table} {ROWS}; alter table {table} enable row level security;
             create policy own on {table} using ({policy}); grant select on {table} to public;"
        );
        for n in 0..TENANTS {
            sql += &format!("insert into {table} {};", rows(&format!("canary_{n}")));
        }
    }
    sql += "create view seen with (security_invoker = true) as select * from guarded; grant select on seen to public;";
    for n in 0..TENANTS {
        let tenant = format!("canary_{n}");
        sql += &format!(
            "create schema {tenant}; create table {tenant}.items {ROWS}; insert into {tenant}.items {};
             grant usage on schema {tenant} to public; grant select on {tenant}.items to public;
             insert into members values ('{tenant}', '{tenant}');",
            rows(&tenant)
        );
    }
    sql + &format!("create table public.items {ROWS}; grant select on items to public;")
}

const QUESTIONS: [Question; 13] = [
    Question::of("select tenant, n, x, raw, at, note, took from guarded order by n", 7),
    Question::of("select tenant, n, x, raw, at, note, took from claims order by n", 7),
    Question::of("select tenant, n, x, at from owned order by n", 4),
    Question::of("select tenant, n, note from functional order by n", 3),
    Question::of("select tenant, n from shared order by n", 2),
    Question::of("select tenant, n, took from either order by tenant, n", 3),
    Question::of("select tenant, n, x, raw, at, note, took from items order by n", 7),
    Question::of("select tenant, n from seen order by n", 2),
    Question::of("select tenant, count(*) from guarded group by tenant", 2),
    Question::of("select g.tenant, o.tenant, g.n from guarded g join owned o using (n) order by g.n", 3),
    Question::of("select tenant from guarded where exists (select from items where items.n = guarded.n) order by n", 1),
    Question { sql: "select tenant, x from guarded where n = $1", parameters: &[(Some("2"), INT4)], columns: 2 },
    Question { sql: "select tenant, at from items where n = $1", parameters: &[(Some("1"), INT4)], columns: 2 },
];

/// A setting that says who asks, or how answers look; `local`: of a transaction alone.
fn saying(random: &mut Random, local: bool) -> String {
    let tenant = format!("canary_{}", random.below(TENANTS));
    let set = if local { "set local" } else { "set" };
    match random.below(22) {
        0 | 1 => format!("{set} app.tenant_id = '{tenant}'"),
        2 | 3 => format!("select set_config('app.tenant_id', '{tenant}', {local})"),
        4 | 5 => format!("{set} role {tenant}"),
        6 => format!("select set_config('role', '{tenant}', {local})"),
        7 => format!("{set} role none"),
        8 | 9 => format!("{set} search_path = {tenant}, public"),
        10 => format!("select set_config('search_path', '{tenant}', {local})")
            .replace(&tenant, &format!("{tenant}, public")),
        11 | 12 => format!("select set_config('request.jwt.claims', '{{\"tenant\":\"{tenant}\"}}', {local})"),
        13 => format!("{set} request.jwt.claims = '{{\"tenant\":\"{tenant}\"}}'"),
        14 => format!("{set} DateStyle = '{}'", random.pick(&["ISO, DMY", "German", "SQL, MDY", "Postgres"])),
        15 => format!("{set} TimeZone = '{}'", random.pick(&["UTC", "Asia/Tokyo", "America/Lima"])),
        16 => format!("{set} extra_float_digits = {}", random.pick(&["0", "1", "-3"])),
        17 => format!("{set} bytea_output = '{}'", random.pick(&["hex", "escape"])),
        18 => format!("{set} client_encoding = '{}'", random.pick(&["UTF8", "LATIN1"])),
        19 => format!("{set} IntervalStyle = '{}'", random.pick(&["iso_8601", "postgres"])),
        20 => format!("{set} row_security = on"),
        _ => format!("{set} app.tenant_id to default"),
    }
}

struct Walker<'a> {
    ground: &'a Ground,
    random: Random,
    pairs: Vec<Pair>,
    asked: usize,
    /// Replies with rows in them.
    full: usize,
}

impl Walker<'_> {
    fn arrive(&mut self) -> Pair {
        let options = format!("-c app.tenant_id=canary_{}", self.random.below(TENANTS));
        let path = format!("canary_{}", self.random.below(TENANTS));
        let mut more: Vec<(&str, &str)> = Vec::new();
        if self.random.once_in(2) {
            more.push(("options", &options));
        }
        if self.random.once_in(3) {
            more.extend([("search_path", path.as_str()), ("TimeZone", "Asia/Tokyo")]);
        }
        // A tenant's own login, too: what its session may read is its role's.
        Pair::new(self.ground, "canary", &more)
    }

    fn ask(&mut self, place: usize) {
        let question = QUESTIONS[self.random.below(QUESTIONS.len())];
        let way = *self.random.pick(&Way::ALL);
        for _ in 0..=self.random.below(3) {
            let reply = self.pairs[place].ask(&question, way);
            self.asked += 1;
            self.full += usize::from(String::from_utf8_lossy(&reply).contains("canary_"));
        }
    }

    fn step(&mut self) {
        let place = self.random.below(self.pairs.len());
        match self.random.below(20) {
            0..=5 => {
                let sql = saying(&mut self.random, false);
                self.pairs[place].run(&sql);
            }
            6..=8 => self.transaction(place),
            9 => {
                let sql = *self.random.pick(&["reset all", "discard all", "reset role", "reset search_path"]);
                self.pairs[place].run(sql);
            }
            10 if self.random.once_in(4) => self.pairs[place] = self.arrive(),
            // Answers are given anew, to whoever comes first.
            11 if self.random.once_in(8) => {
                self.ground.caches().flush();
                // Others go on meanwhile; a walk that only met catalogs being read would meet no answer.
                eventually("the catalog is read again", || {
                    self.ground.caches().all().iter().all(|cached| {
                        let epoch = cached.generations.epoch();
                        cached.view().is_some_and(|view| view.epoch.generation() == epoch)
                    })
                });
            }
            _ => self.ask(place),
        }
    }

    fn transaction(&mut self, place: usize) {
        self.pairs[place].run("begin");
        for _ in 0..=self.random.below(3) {
            match self.random.below(5) {
                0 => {
                    let sql = *self.random.pick(&["savepoint s", "savepoint s", "rollback to s"]);
                    self.pairs[place].run(sql);
                }
                1 => {
                    let sql = format!("select become('canary_{}')", self.random.below(TENANTS));
                    self.pairs[place].run(&sql);
                }
                n => {
                    let sql = saying(&mut self.random, n != 2);
                    self.pairs[place].run(&sql);
                }
            }
            self.ask(place);
        }
        let end = *self.random.pick(&["commit", "rollback", "commit"]);
        self.pairs[place].run(end);
        self.ask(place);
    }
}

/// Answers from the cache that a walk has to meet.
const HITS: u64 = 100;

#[test]
fn no_row_of_another_tenant_is_ever_seen() {
    roles();
    let ground = Ground::new(&schema());
    let mut first = ground.client_of("canary");
    ground.cached(&mut first, "select tenant from items order by n");
    let (seed, end) = (seed(), Instant::now() + duration());
    let threads = 3;
    let walked = std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..threads)
            .map(|thread| {
                let ground = &ground;
                scope.spawn(move || {
                    let random = Random(seed ^ (thread + 1u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
                    let mut walker = Walker { ground, random, pairs: Vec::new(), asked: 0, full: 0 };
                    for _ in 0..3 {
                        let pair = walker.arrive();
                        walker.pairs.push(pair);
                    }
                    // Until the cache was in play for long enough, however busy the machine is.
                    let last = end + 3 * PATIENCE;
                    while Instant::now() < end || ground.hits() < HITS && Instant::now() < last {
                        walker.step();
                    }
                    (walker.asked, walker.full)
                })
            })
            .collect();
        walkers.into_iter().map(|walker| walker.join().expect("a walker that saw nothing foreign")).collect::<Vec<_>>()
    });
    let (asked, full) = walked.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{asked} asked, {full} with rows; {}", ground.why());
    assert!(full > asked / 10, "{full} of {asked} answers with rows show nothing");
    assert!(ground.hits() >= HITS, "hardly anything came from the cache: {}", ground.why());
}

/// Asked in every way as each tenant in turn, once to fill and once from the cache.
fn each_tenant_sees_its_own(identify: impl Fn(&str) -> Vec<String>, table: &str) {
    roles();
    let ground = Ground::new(&schema());
    let mut pair = Pair::new(&ground, "canary", &[]);
    let sql: &'static str = match table {
        "items" => "select tenant from items order by n",
        "guarded" => "select tenant from guarded order by n",
        "claims" => "select tenant from claims order by n",
        "owned" => "select tenant from owned order by n",
        _ => "select tenant from shared order by n",
    };
    let question = Question::of(sql, 1);
    for way in [Way::Simple, Way::Named, Way::Binary] {
        for round in 0..3 {
            for tenant in 0..TENANTS {
                let name = format!("canary_{tenant}");
                for sql in identify(&name) {
                    pair.run(&sql);
                }
                let reply = pair.ask(&question, way);
                let shown = String::from_utf8_lossy(&reply).matches(&name).count();
                assert!(shown >= 3, "{name} sees {shown} rows of its own, round {round}");
            }
        }
    }
    // And all four answers are kept side by side.
    let mut client: RawClient = ground.client_of("canary");
    for tenant in 0..TENANTS {
        for sql in identify(&format!("canary_{tenant}")) {
            client.query(sql).ok();
        }
        let rows = ground.cached(&mut client, sql).rows();
        assert!(rows.len() == 3 && rows.iter().all(|row| row[0] == format!("canary_{tenant}")), "{rows:?}");
    }
}

#[test]
fn by_a_setting() {
    each_tenant_sees_its_own(|tenant| vec![format!("set app.tenant_id = '{tenant}'")], "guarded");
    each_tenant_sees_its_own(
        |tenant| vec![format!("select set_config('app.tenant_id', '{tenant}', false)")],
        "guarded",
    );
}

#[test]
fn by_claims() {
    let claims = |tenant: &str| vec![format!("set request.jwt.claims = '{{\"tenant\":\"{tenant}\"}}'")];
    each_tenant_sees_its_own(claims, "claims");
}

#[test]
fn by_a_role() {
    // Where a role looks names up by default nobody has said.
    let path = || "set search_path = public".to_owned();
    each_tenant_sees_its_own(|tenant| vec![path(), format!("set role {tenant}")], "owned");
    each_tenant_sees_its_own(|tenant| vec!["reset role".to_owned(), path(), format!("set role {tenant}")], "shared");
}

#[test]
fn by_a_search_path() {
    each_tenant_sees_its_own(|tenant| vec![format!("set search_path = {tenant}")], "items");
}

#[test]
fn two_users_with_a_schema_of_their_own_name() {
    let ground = Ground::new(
        "create role own_schema_a login; create role own_schema_b login;
         create schema own_schema_a authorization own_schema_a; create schema own_schema_b authorization own_schema_b;
         create table own_schema_a.items as select 'of a' as owner; create table own_schema_b.items as select 'of b' as owner;
         create table public.items as select 'of all' as owner; grant select on public.items to public;
         alter table own_schema_a.items owner to own_schema_a; alter table own_schema_b.items owner to own_schema_b",
    );
    let (mut a, mut b, mut other) =
        (ground.client_of("own_schema_a"), ground.client_of("own_schema_b"), ground.client());
    for _ in 0..3 {
        assert_eq!(ground.cached(&mut a, "select owner from items").value(), "of a");
        assert_eq!(ground.cached(&mut b, "select owner from items").value(), "of b");
        assert_eq!(ground.cached(&mut other, "select owner from items").value(), "of all");
    }
    drop((a, b, other));
}
