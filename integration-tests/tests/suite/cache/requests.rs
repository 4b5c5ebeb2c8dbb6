//! Requests as drivers put them together: a statement that is prepared with its first execution or described before it,
//! several of them before one Sync; and tenants that stand in comments.

use std::sync::atomic::Ordering;

use config::PoolMode::Transaction;
use integration_tests::{Cluster, Proxy, RawClient, Site, eventually, frontend, tenants};

use super::{Ground, settings};

const ITEMS: &str =
    "create table items (id int primary key, name text); insert into items values (1, 'one'), (2, 'two')";
const NAMED: &str = "select name from items where id = $1";

/// Executes a statement that was prepared, its portal described.
fn run<'a>(client: &'a mut RawClient, name: &str, id: &str) -> &'a mut RawClient {
    client.bind(name, &[id]).say(frontend::describe(b'P', "")).execute()
}

#[test]
fn a_statement_that_is_described_before_it_is_executed() {
    let ground = Ground::new(ITEMS);
    let mut client = ground.client();
    // node-postgres, asyncpg, pgjdbc: once.
    let reply = client.parse("s", NAMED).say(frontend::describe(b'S', "s")).sync().reply().ok();
    assert_eq!(reply.shape(), "1tTZ");
    // And then each time.
    let reply = ground.until_hit(|| run(&mut client, "s", "1").sync().reply().ok());
    assert_eq!((reply.value().as_str(), reply.shape().as_str()), ("one", "2TDCZ"));
    assert_eq!(run(&mut client, "s", "2").sync().reply().value(), "two");
    // Described again: nothing that is kept stands for that.
    let (reply, hit) = ground.asked(|| client.say(frontend::describe(b'S', "s")).sync().reply().ok());
    assert!(reply.shape() == "tTZ" && !hit);
    let (reply, hit) = ground.asked(|| run(&mut client, "s", "1").sync().reply().ok());
    assert!(hit && reply.value() == "one", "{}", ground.why());
}

#[test]
fn a_statement_that_is_prepared_and_executed_in_one_request() {
    let ground = Ground::new(ITEMS);
    let (mut client, mut writer) = (ground.client(), ground.client());
    for n in 0..3 {
        // npgsql, pgx: the first time so, whatever others have got for the same.
        let name = format!("s{n}");
        let reply = run(client.parse(&name, NAMED), &name, "1").sync().reply().ok();
        assert_eq!((reply.value(), reply.shape()), ("one".to_owned(), "12TDCZ".to_owned()));
        let reply = ground.until_hit(|| run(&mut client, &name, "1").sync().reply().ok());
        assert_eq!(reply.value(), "one");
    }
    // Within a pipeline, with one Sync: the last one sees what the one in the middle writes.
    client.parse("w", "update items set name = $2 where id = $1").sync().reply().ok();
    for round in ["three", "four"] {
        run(&mut client, "s0", "1");
        client.bind("w", &["1", round]).execute();
        let reply = run(&mut client, "s0", "1").sync().reply().ok();
        assert_eq!(reply.rows().last().map(|row| row[0].clone()).as_deref(), Some(round), "{reply:?}");
        assert_eq!(ground.until_hit(|| super::extended(&mut writer, NAMED, &["1"]).reply().ok()).value(), round);
    }
    // A name that is taken is refused, and what it stands for is what it was.
    assert_eq!(client.parse("s0", "select 'x'").sync().reply().error().code(), "42P05");
    assert_eq!(run(&mut client, "s0", "1").sync().reply().value(), "four");
}

#[test]
fn a_tenant_that_stands_in_a_comment_has_answers_and_limits_of_its_own() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(2).with(|all| {
            all.cache = settings();
            all.tenants =
                tenants("[[tenant.rule]]\nfrom = 'comment'\nname = 'tenant'\n[tenant.limits.small]\nmax_rows = 1\n");
        })
    });
    Cluster::shared().run(&site.database, ITEMS);
    let ground = Ground { site };
    let mut client = ground.client();
    let of = |tenant: &str| format!("select name from items order by id /*tenant='{tenant}'*/");
    assert_eq!(ground.cached(&mut client, &of("acme")).rows().len(), 2);
    let (_, hit) = ground.asked(|| client.query(of("else")).ok());
    assert!(!hit, "another tenant's answers are its own");
    ground.cached(&mut client, &of("else"));
    // Whose limits let it have one row is told so, or gets one, each time.
    let server = client.query(of("small")).shape();
    for _ in 0..3 {
        let (reply, hit) = ground.asked(|| client.query(of("small")));
        assert!(!hit && reply.shape() == server && reply.rows().len() <= 1, "{reply:?}");
        assert_eq!(ground.cached(&mut client, &of("acme")).rows().len(), 2);
    }
    // In a transaction, prepared, and without a comment: the connection's own again.
    client.parse("s", &of("acme")).sync().reply().ok();
    client.query("begin").ok();
    let reply = ground.until_hit(|| client.bind("s", &[]).execute().sync().reply().ok());
    assert_eq!((reply.rows().len(), reply.status()), (2, 'T'));
    client.query("commit").ok();
    assert_eq!(ground.cached(&mut client, "select name from items order by id").rows().len(), 2);
}

/// Clients whose settings differ take turns on one server connection: each time, theirs are sent in front of the request.
#[test]
fn what_is_sent_in_front_of_a_request_is_no_part_of_its_answer() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(
        &database,
        "create table runs (id int, n int); insert into runs select n, n from generate_series(1, 100) n",
    );
    let proxy = Proxy::before(cluster.address()).size(1).with(|settings| settings.cache = super::settings()).start();
    let counters = &proxy.caches().counters;
    let [mut first, mut second] = ["first", "second"].map(|who| {
        // Values from here are sent as calls, which have a row.
        let options = format!("-c app.who={who}");
        let parameters = [("user", "postgres"), ("database", database.as_str()), ("options", options.as_str())];
        RawClient::login_with(proxy.address(), &parameters, "")
    });
    let fills = || counters.fills.load(Ordering::Relaxed);
    eventually("answers are kept", || {
        first.query("select n from runs where id = 0").ok();
        fills() > 0
    });
    let misses = || counters.misses.all().map(|(_, count)| count).sum::<u64>();
    let before = (fills(), misses());
    for id in 1..=20 {
        for client in [&mut first, &mut second] {
            assert_eq!(client.query(format!("select n from runs where id = {id}")).value(), id.to_string());
        }
    }
    assert_eq!(fills() - before.0, 40, "{:?}", counters.refused.all().collect::<Vec<_>>());
    assert_eq!(misses() - before.1, 40, "each of them is one: {:?}", counters.misses.all().collect::<Vec<_>>());
    // So is one that waits for its turn on the server.
    let before = misses();
    first.query("begin; select pg_advisory_xact_lock(1)").ok();
    second.start_query("select n from runs where id = 77");
    assert!(second.hears_nothing_for(std::time::Duration::from_millis(100)));
    first.query("commit").ok();
    assert_eq!(second.reply().value(), "77");
    assert_eq!(misses() - before, 1);
}
