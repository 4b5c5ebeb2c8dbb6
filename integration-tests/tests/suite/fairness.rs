//! Tenants that share a pool: what a flood of one costs the others, and what each may have at most.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use config::PoolMode::{self, Session, Transaction};
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, RawClient, Scratch, Site, eventually, http, tenants};

/// By `application_name`: `web-acme` is a client of `acme`, and `job-acme` one of its class `job`.
const RULES: &str = "
[[tenant.rule]]
from = 'application_name'
pattern = '-(?<tenant>[a-z]+)$'
[[tenant.classify]]
class = 'job'
from = 'application_name'
pattern = '^job'
";

/// A pool of this many upstreams, and what the configuration says of tenants.
fn site(mode: PoolMode, size: usize, toml: &str) -> Site {
    site_with(mode, size, toml, |proxy| proxy)
}

fn site_with(mode: PoolMode, size: usize, toml: &str, change: impl FnOnce(Builder) -> Builder) -> Site {
    let tenants = tenants(&format!("{RULES}{toml}"));
    Site::behind(mode, |proxy| change(proxy.size(size).with(|settings| settings.tenants = tenants)))
}

fn client_of(site: &Site, tenant: &str) -> RawClient {
    site.client_with(&[("application_name", &format!("web-{tenant}"))])
}

/// A client that holds an upstream.
fn holder(site: &Site, tenant: &str) -> RawClient {
    let mut holder = client_of(site, tenant);
    holder.query("begin").ok();
    holder
}

/// The pool's row of the admin port; null: nobody has come yet.
fn row(site: &Site) -> serde_json::Value {
    let pools = http::fetch(site.proxy.as_ref().unwrap().admin(), "/api/v1/pools").json();
    let of_site = |pool: &&serde_json::Value| pool["database"] == site.database.as_str();
    pools["pools"].as_array().unwrap().iter().find(of_site).cloned().unwrap_or_default()
}

/// How many clients of a tenant wait, by the admin port.
fn waiting(site: &Site, tenant: &str) -> u64 {
    let row = row(site);
    let tenants = row["tenants"].as_array();
    let state = tenants.and_then(|tenants| tenants.iter().find(|state| state["tenant"] == tenant));
    state.map_or(0, |state| state["waiting"].as_u64().unwrap())
}

/// pgbench as a tenant.
struct Bench {
    folder: Scratch,
    process: Child,
}

impl Bench {
    /// So many clients run the statement one after the other.
    fn start(site: &Site, tenant: &str, clients: usize, seconds: u32, statement: &str) -> Self {
        Self::run(site, &format!("web-{tenant}"), clients, seconds, statement)
    }

    /// The same under an `application_name`.
    fn run(site: &Site, name: &str, clients: usize, seconds: u32, statement: &str) -> Self {
        let folder = Scratch::new();
        let script = folder.file("script.sql", statement);
        let process = Command::new(Cluster::shared().program("pgbench"))
            .current_dir(folder.path())
            .args(["--no-vacuum", "--log", "--host=127.0.0.1", "--username=postgres"])
            .arg(format!("--port={}", site.address().port()))
            .args([format!("--client={clients}"), format!("--time={seconds}"), format!("--file={}", script.display())])
            .env("PGDATABASE", &site.database)
            .env("PGAPPNAME", name)
            .env("PGSSLMODE", "disable")
            .env("LC_ALL", "C")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, process }
    }

    /// Each transaction's time, sorted, once it has ended.
    fn times(self) -> Vec<Duration> {
        let output = self.process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let logs = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("pgbench_log"));
        let mut times: Vec<Duration> = logs
            .flat_map(|log| {
                let text = fs::read_to_string(log).unwrap();
                let times = text.lines().map(|line| line.split(' ').nth(2).unwrap().parse().unwrap());
                times.map(Duration::from_micros).collect::<Vec<_>>()
            })
            .collect();
        times.sort_unstable();
        times
    }
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

#[test]
fn a_tenant_that_floods_the_pool_is_hardly_felt_by_another() {
    const STATEMENT: &str = "select pg_sleep(0.01);\n";
    let site = site(Transaction, 4, "");
    let alone = p99(&Bench::start(&site, "calm", 2, 3, STATEMENT).times());
    let measured_beside = |tenant: &str| {
        let flood = Bench::start(&site, "flood", 64, 6, STATEMENT);
        eventually("the flood waits", || waiting(&site, "flood") > 40);
        let times = Bench::start(&site, tenant, 2, 3, STATEMENT).times();
        (times, flood.times().len())
    };
    let (fair, served) = measured_beside("calm");
    // The control: two more clients of the same tenant queue with all the others.
    let (fifo, _) = measured_beside("flood");
    println!("p99 alone {alone:?}, beside a flood {:?} ({served} served), as part of it {:?}", p99(&fair), p99(&fifo));
    // A wait for one boundary, of which each comes after 10 ms at the latest; 160 ms as part of the flood.
    assert!(p99(&fair) <= alone + Duration::from_millis(30), "{alone:?} became {:?}", p99(&fair));
    assert!(p99(&fifo) >= alone + Duration::from_millis(80), "the control shows nothing: {alone:?}, {:?}", p99(&fifo));
    // 400 a second is all that four upstreams can do.
    assert!(served > 6 * 400 / 2, "{served}");
}

#[test]
fn a_tenant_holds_no_more_upstreams_than_its_maximum_and_the_others_have_the_rest() {
    let site = site(Transaction, 4, "[tenant.limits.capped]\nmax_upstreams = 2");
    let capped = Bench::start(&site, "capped", 16, 3, "select pg_sleep(0.02);\n");
    eventually("they wait", || waiting(&site, "capped") > 8);
    let mut watcher = Cluster::shared().connect(&site.database);
    let mut other = client_of(&site, "other");
    let (mut most, mut slowest) = (0, Duration::ZERO);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(0.02)%' \
             and datname = current_database()";
        most = most.max(watcher.query(running).value().parse::<usize>().unwrap());
        let asked = Instant::now();
        other.query("select 1").ok();
        slowest = slowest.max(asked.elapsed());
    }
    assert_eq!(most, 2, "it has its maximum, and no more");
    let row = row(&site);
    let state = row["tenants"].as_array().unwrap().iter().find(|state| state["tenant"] == "capped").unwrap();
    assert_eq!((state["holding"].as_u64(), state["max_upstreams"].as_u64()), (Some(2), Some(2)), "{state}");
    // In the queue of the capped ones it would wait for 160 ms.
    assert!(slowest < Duration::from_millis(120), "two upstreams are free for it: {slowest:?}");
    assert!(capped.times().len() > 150, "and nobody is forgotten");
    eventually("nothing is held any more", || row_is_empty(&site));
}

fn row_is_empty(site: &Site) -> bool {
    row(site)["tenants"].as_array().unwrap().is_empty()
}

#[test]
fn a_full_queue_is_told_at_once_and_is_the_tenants_own() {
    let site = site(Transaction, 1, "[tenant.limits.acme]\nmax_waiting = 2");
    let mut holder = holder(&site, "other");
    let mut queued: Vec<RawClient> = (0..2).map(|_| client_of(&site, "acme")).collect();
    for (place, client) in queued.iter_mut().enumerate() {
        client.start_query("select 1");
        eventually("it waits", || waiting(&site, "acme") == place as u64 + 1);
    }
    let mut late = client_of(&site, "acme");
    let asked = Instant::now();
    let reply = late.query("select 1");
    let error = reply.error();
    assert_eq!((error.code(), error.is_whole()), ("53400", true), "{error:?}");
    for said in ["tenant \"acme\"", "is 2 clients", "max_waiting of [tenant.limits.acme]"] {
        assert!(error.detail().contains(said), "{error:?}");
    }
    assert!(error.hint().starts_with("Retry in "), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(1), "it is told at once");
    let prepared = late.parse("", "select 1").bind("", &[]).execute().sync().reply();
    assert_eq!(prepared.error().code(), "53400", "{prepared:?}");
    let mut other = client_of(&site, "other");
    other.start_query("select 1");
    eventually("it has a queue of its own", || waiting(&site, "other") == 1);
    assert_eq!(row(&site)["queue_refusals"].as_u64(), Some(2));
    holder.query("commit").ok();
    queued.iter_mut().chain([&mut other]).for_each(|client| {
        client.reply().ok();
    });
    late.query("select 1").ok();
}

#[test]
fn who_waits_for_its_tenants_maximum_is_told_so() {
    let site = site_with(Transaction, 4, "[tenant.limits.acme]\nmax_upstreams = 1", |proxy| {
        proxy.pool(|pool| pool.queue_timeout = Duration::from_millis(200))
    });
    let _holder = holder(&site, "acme");
    let reply = client_of(&site, "acme").query("select 1");
    let error = reply.error();
    assert_eq!(error.code(), "53300", "{error:?}");
    assert!(error.detail().contains("all 1 server connections of this tenant are in use"), "{error:?}");
    assert!(error.hint().contains("max_upstreams of this tenant"), "{error:?}");
}

/// What the admin port says of a tenant; null: it has not come yet.
fn tenant_row(site: &Site, tenant: &str) -> serde_json::Value {
    let page = http::fetch(site.proxy.as_ref().unwrap().admin(), "/api/v1/tenants").json();
    let row = page["tenants"].as_array().unwrap().iter().find(|row| row["tenant"] == tenant).cloned();
    row.unwrap_or_default()
}

/// How often a limit of a tenant would have been reached, by its modes' names.
fn reached(site: &Site, tenant: &str, limit: &str) -> serde_json::Value {
    tenant_row(site, tenant)["limits_reached"][limit].clone()
}

#[test]
fn limits_on_a_share_that_are_only_looked_at_count_and_warn() {
    let toml = |mode| format!("[tenant.limits.acme]\nmax_upstreams = 1\nmax_waiting = 1\nmode = '{mode}'");
    let warned = |client: &mut RawClient, key: &str| {
        let reply = client.reply().ok();
        let notices = reply.notices();
        let own = notices.iter().find(|notice| notice.detail().contains(key));
        own.is_some_and(|notice| notice.hint().contains("only warns"))
    };
    for (mode, name) in [("observe", "observed"), ("warn", "warned")] {
        let site = site(Transaction, 2, &toml(mode));
        let mut first = holder(&site, "acme");
        assert_eq!(reached(&site, "acme", "max_upstreams"), serde_json::Value::Null, "{mode}: one is what it may have");
        let mut second = client_of(&site, "acme");
        second.start_query("begin");
        assert_eq!(warned(&mut second, "max_upstreams of [tenant.limits.acme]"), mode == "warn");
        assert_eq!(reached(&site, "acme", "max_upstreams")[name], 1, "{mode}");
        let mut queued: Vec<RawClient> = (0..2).map(|_| client_of(&site, "acme")).collect();
        for (place, client) in queued.iter_mut().enumerate() {
            client.start_query("select 1");
            eventually("it waits", || waiting(&site, "acme") == place as u64 + 1);
        }
        eventually("one more waits than may", || reached(&site, "acme", "max_waiting")[name] == 1);
        first.query("commit").ok();
        second.query("commit").ok();
        // The first of them waits alone, the second is one too many.
        let told = queued.iter_mut().map(|client| warned(client, "max_waiting of [tenant.limits.acme]"));
        assert_eq!(told.collect::<Vec<_>>(), [false, mode == "warn"], "{mode}");
    }
}

#[test]
fn a_lease_that_ends_badly_is_given_back_too() {
    let site = site(Transaction, 4, "[tenant.limits.acme]\nmax_upstreams = 1");
    // Upstreams idle here and there: they have to be found by whoever ends the lease.
    let others: Vec<RawClient> = (0..3).map(|_| holder(&site, "other")).collect();
    for mut other in others {
        other.query("commit").ok();
    }
    for end in ["vanishes", "is terminated", "leaves something behind"] {
        let mut holder = holder(&site, "acme");
        let server = holder.query("select pg_backend_pid()").value();
        let mut next = client_of(&site, "acme");
        next.start_query("select 7");
        assert!(next.hears_nothing_for(Duration::from_millis(100)), "though upstreams idle");
        match end {
            "vanishes" => holder.vanish(),
            "is terminated" => {
                Cluster::shared().run(&site.database, &format!("select pg_terminate_backend({server})")).ok();
            }
            _ => {
                holder.query("select pg_advisory_lock(1)").ok();
                holder.query("commit").ok();
                holder.terminate();
            }
        }
        assert_eq!(next.reply().value(), "7", "a holder {end}");
    }
    eventually("nothing is held any more", || row_is_empty(&site));
}

#[test]
fn a_transaction_that_says_whose_it_is_is_charged_to_that_tenant() {
    let by_setting =
        tenants("[[tenant.rule]]\nfrom = 'setting'\nname = 'app.tenant_id'\n[tenant.limits.acme]\nmax_upstreams = 1");
    let site = Site::behind(Transaction, |proxy| proxy.size(4).with(|settings| settings.tenants = by_setting));
    let mut first = site.client();
    first.query("begin").ok();
    first.query("set local app.tenant_id = 'acme'").ok();
    let mut second = site.client_with(&[("options", "-c app.tenant_id=acme")]);
    second.start_query("select 2");
    assert!(second.hears_nothing_for(Duration::from_millis(150)), "acme has its maximum");
    first.query("select 1").ok();
    first.query("commit").ok();
    assert_eq!(second.reply().value(), "2");
    eventually("nothing is held any more", || row_is_empty(&site));
}

#[test]
fn a_minimum_is_served_before_those_who_have_more() {
    let site = site(
        Transaction,
        2,
        "[tenant.limits.small]\nweight = 1\nmin_upstreams = 1\n[tenant.limits.large]\nweight = 1000",
    );
    let flood = Bench::start(&site, "large", 32, 3, "select pg_sleep(0.02);\n");
    eventually("the flood waits", || waiting(&site, "large") > 20);
    let mut small = client_of(&site, "small");
    for _ in 0..30 {
        let asked = Instant::now();
        small.query("select 1").ok();
        // By its weight it would wait for seconds.
        assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    }
    assert!(!flood.times().is_empty());
}

#[test]
fn in_session_mode_a_maximum_counts_sessions() {
    let site = site(Session, 4, "[tenant.limits.acme]\nmax_upstreams = 2");
    let (first, _second) = (client_of(&site, "acme"), client_of(&site, "acme"));
    let address = site.address();
    let parameters = [("user", "postgres"), ("database", site.database.as_str()), ("application_name", "web-acme")];
    std::thread::scope(|scope| {
        let third = scope.spawn(|| RawClient::login_with(address, &parameters, "").query("select 3").value());
        eventually("it waits", || waiting(&site, "acme") == 1);
        client_of(&site, "other").query("select 1").ok();
        first.terminate();
        assert_eq!(third.join().unwrap(), "3");
    });
}

#[test]
fn a_class_has_a_maximum_of_its_own_within_its_tenant() {
    // Whatever its tenant may have beside that.
    for tenant in ["", "[tenant.limits.acme]\nmax_upstreams = 3"] {
        let site = site(Transaction, 4, &format!("[tenant.class.job]\nmax_upstreams = 1\n{tenant}"));
        let job = || site.client_with(&[("application_name", "job-acme")]);
        let (mut first, mut second) = (job(), job());
        first.query("begin").ok();
        second.start_query("select 2");
        assert!(second.hears_nothing_for(Duration::from_millis(100)), "the class has its maximum: {tenant}");
        client_of(&site, "acme").query("select 1").ok();
        site.client_with(&[("application_name", "job-globex")]).query("select 1").ok();
        first.query("commit").ok();
        assert_eq!(second.reply().value(), "2");
    }
}

#[test]
fn where_both_wait_one_of_three_times_the_weight_has_three_times_the_statements() {
    // Of two tenants, and of two classes of a tenant that has a weight itself.
    let toml = "[tenant.limits.large]\nweight = 3\n[tenant.class.job]\nweight = 3\n[tenant.limits.acme]\nweight = 2";
    for [light, heavy] in [["web-small", "web-large"], ["web-acme", "job-acme"]] {
        let site = site(Transaction, 2, toml);
        let flood = |name| Bench::run(&site, name, 16, 5, "select pg_sleep(0.01);\n");
        let floods = [light, heavy].map(flood);
        let served_of = |name: &str| {
            let (class, tenant) = name.split_once('-').unwrap();
            let row = tenant_row(&site, tenant);
            let jobs = row["classes"]["job"]["statements"].as_u64().unwrap_or(0);
            if class == "job" { jobs } else { row["statements"].as_u64().unwrap_or(0) - jobs }
        };
        let waiting = || -> u64 {
            let tenants = row(&site)["tenants"].as_array().cloned().unwrap_or_default();
            tenants.iter().map(|state| state["waiting"].as_u64().unwrap()).sum()
        };
        eventually("both wait", || waiting() > 26);
        let before = [served_of(light), served_of(heavy)];
        eventually("many of both are served", || served_of(light) - before[0] >= 40);
        let served = [served_of(light) - before[0], served_of(heavy) - before[1]];
        let ratio = served[1] as f64 / served[0] as f64;
        println!("{light} and {heavy} were served {served:?}: {ratio:.2}");
        assert!((2.0..=4.5).contains(&ratio), "{light} and {heavy} were served {served:?}: {ratio:.2}");
        floods.into_iter().for_each(|flood| drop(flood.times()));
    }
}

#[test]
fn a_session_that_says_another_class_is_charged_to_that_one() {
    let site = site(Session, 4, "[tenant.class.job]\nmax_upstreams = 1");
    let job = || site.client_with(&[("application_name", "job-acme")]);
    let mut first = job();
    first.query("select 1").ok();
    first.query("set application_name = 'web-acme'").ok();
    let mut second = job();
    assert_eq!(second.query("select 2").value(), "2", "the first one is no job any longer");
    // Nor does it give back what is the other's now.
    first.terminate();
    let (address, parameters) = (site.address(), site.parameters(&[("application_name", "job-acme")]));
    std::thread::scope(|scope| {
        let third = scope.spawn(|| RawClient::login_with(address, &parameters, "").query("select 3").value());
        eventually("the class has its maximum", || waiting(&site, "acme") == 1);
        second.terminate();
        assert_eq!(third.join().unwrap(), "3");
    });
}

/// A site whose limits can be changed, and what changes them.
fn reloading(mode: PoolMode, size: usize, toml: &str) -> (Site, impl Fn(&Site, &str)) {
    let mut settings = None;
    let site = site_with(mode, size, toml, |proxy| {
        settings = Some(proxy.settings());
        proxy
    });
    let settings = settings.unwrap();
    let reload = move |site: &Site, toml: &str| {
        site.reload(config::Settings { tenants: tenants(toml), ..settings.clone() });
    };
    (site, reload)
}

#[test]
fn a_reload_that_says_whose_a_session_is_charges_what_it_holds_to_that_one() {
    let limits = "[tenant.class.job]\nmax_upstreams = 1";
    let (site, reload) = reloading(Transaction, 4, limits);
    let mut first = site.client_with(&[("application_name", "job-acme")]);
    first.query("begin").ok();
    let mut second = site.client_with(&[("application_name", "job2-acme")]);
    second.start_query("select 2");
    assert!(second.hears_nothing_for(Duration::from_millis(100)), "the class has its maximum");
    // What is named so is no job any longer: the class has nothing.
    reload(&site, &format!("{}{limits}", RULES.replace("'^job'", "'^job2'")));
    assert_eq!(second.reply().value(), "2");
    first.query("commit").ok();
    eventually("nothing is held any more", || row_is_empty(&site));
}

#[test]
fn a_reload_that_takes_a_maximum_away_helps_those_who_wait_for_it() {
    let (site, reload) = reloading(Transaction, 4, "[tenant.limits.acme]\nmax_upstreams = 1");
    let mut first = holder(&site, "acme");
    let mut second = client_of(&site, "acme");
    second.start_query("select 2");
    eventually("it waits", || waiting(&site, "acme") == 1);
    reload(&site, &format!("{RULES}[tenant.limits.acme]\nmax_upstreams = 2"));
    assert_eq!(second.reply().value(), "2");
    let mut others = [holder(&site, "acme"), client_of(&site, "acme")];
    others[1].start_query("select 3");
    eventually("it waits", || waiting(&site, "acme") == 1);
    reload(&site, RULES);
    assert_eq!(others[1].reply().value(), "3");
    first.query("commit").ok();
}
