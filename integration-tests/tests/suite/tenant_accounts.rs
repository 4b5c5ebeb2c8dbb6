//! What is told of tenants: in the admin port, in metrics, in the log, and to whom.

use config::PoolMode::Transaction;
use integration_tests::{Cluster, ProxyProcess, RawClient, Site, eventually, http, tenants};

/// The same without a limit, for a proxy within the test's process.
const RULES: &str = "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z]+)'\n\
    [[tenant.classify]]\nclass = 'worker'\nfrom = 'application_name'\npattern = '^worker'\n";

/// Tenants and classes by `application_name`, a limit of one row for `acme`, and tokens.
fn proxy() -> ProxyProcess {
    ProxyProcess::with_config(&format!(
        "listen = \"{{listen}}\"\nauth.method = \"trust\"\nlog.format = \"json\"\npool.size = 1\n\
         pool.queue_timeout = \"300ms\"\n\
         [admin]\nlisten = \"{{admin}}\"\ntoken = \"operator\"\n\
         [admin.tenant_token.a]\ntenant = \"acme\"\ntoken = \"token-of-acme\"\n\
         [[tenant.rule]]\nfrom = \"application_name\"\npattern = \"tenant:(?<tenant>[a-z]+)\"\n\
         [[tenant.classify]]\nclass = \"worker\"\nfrom = \"application_name\"\npattern = \"^worker\"\n\
         [tenant.limits.acme]\nmax_rows = 1\nmode = \"enforce\"\n\
         [databases.\"*\"]\nupstream = \"postgres://{}\"\n",
        Cluster::shared().address()
    ))
}

fn client(proxy: &ProxyProcess, application: &str) -> RawClient {
    let parameters = [("user", "postgres"), ("database", "postgres"), ("application_name", application)];
    RawClient::login_with(proxy.address(), &parameters, "")
}

fn ask(proxy: &ProxyProcess, path: &str, token: &str) -> http::Response {
    http::request(proxy.admin(), path, &[("Authorization", &format!("Bearer {token}"))]).unwrap()
}

fn row_of(proxy: &ProxyProcess, tenant: &str) -> serde_json::Value {
    let page = ask(proxy, "/api/v1/tenants", "operator").json();
    page["tenants"].as_array().unwrap().iter().find(|row| row["tenant"] == tenant).cloned().unwrap()
}

#[test]
fn each_tenant_and_class_is_accounted_for() {
    let proxy = proxy();
    let mut worker = client(&proxy, "worker tenant:acme");
    let mut web = client(&proxy, "web tenant:acme");
    let mut globex = client(&proxy, "web tenant:globex");
    for _ in 0..3 {
        assert_eq!(worker.query("select 1").value(), "1");
    }
    assert_eq!(web.query("select * from generate_series(1, 5)").error().code(), "53400");
    globex.query("select pg_sleep(0.3)").ok();
    // A pinned server connection, and somebody who waits for it in vain.
    globex.query("select pg_advisory_lock(7)").ok();
    assert_eq!(worker.query("select 1").error().code(), "53300");
    drop(globex);

    let acme = row_of(&proxy, "acme");
    assert_eq!((&acme["clients"], &acme["connections"], &acme["queue_timeouts"]), (&2.into(), &2.into(), &1.into()));
    assert_eq!(acme["refusals_by_sqlstate"], serde_json::json!({"53300": 1, "53400": 1}));
    let work = &acme["classes"]["worker"];
    assert_eq!((&work["statements"], &work["rows"], &work["clients"]), (&3.into(), &3.into(), &1.into()), "{acme}");
    assert!(work["server_ms"].as_f64().unwrap() > 0.0 && work["bytes_out"].as_u64().unwrap() > 0, "{acme}");
    let globex = row_of(&proxy, "globex");
    assert_eq!(globex["pins"], 1, "{globex}");
    let share = |row: &serde_json::Value| row["share"]["server"].as_f64().unwrap();
    assert!(share(&globex) > 0.8 && (share(&globex) + share(&acme) - 1.0).abs() < 0.01, "{globex} {acme}");

    let metrics = ask(&proxy, "/metrics", "operator").body;
    for line in [
        "pgweir_tenant_clients{tenant=\"acme\"} 2",
        "pgweir_tenant_limit_reached_total{tenant=\"acme\",class=\"\",limit=\"max_rows\",mode=\"enforce\"} 1",
        "pgweir_tenant_class_statements_total{tenant=\"acme\",class=\"worker\"} 3",
        "pgweir_tenant_pins_total{tenant=\"globex\"} 1",
        "pgweir_tenant_queue_timeouts_total{tenant=\"acme\"} 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    let timed = "pgweir_database_class_statement_seconds_count{database=\"postgres\",class=\"worker\"} 3";
    assert!(metrics.lines().any(|known| known == timed), "{metrics}");
    assert!(!metrics.contains("pgweir_tenant_class_statement_errors_total{"), "rows without anything are not written");

    let told = || {
        let log = proxy.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let lines: Vec<_> = lines.filter(|line| line["target"] == "limit").collect();
        (!lines.is_empty()).then(|| lines.clone())
    };
    eventually("the log tells of the limit", || told().is_some());
    for _ in 0..5 {
        web.query("select * from generate_series(1, 5)");
    }
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let lines = told().unwrap();
    assert_eq!(lines.len(), 1, "once a minute: {lines:?}");
    let line = &lines[0];
    assert_eq!(
        (&line["tenant"], &line["limit"], &line["mode"]),
        (&"acme".into(), &"max_rows".into(), &"enforce".into())
    );
    assert_eq!((&line["rule"], &line["times"]), (&"[tenant.limits.acme]".into(), &1.into()), "{line}");
}

#[test]
fn a_tenants_token_sees_live_statements_of_its_own_alone() {
    let proxy = proxy();
    let mut acme = client(&proxy, "web tenant:acme");
    let mut canary = client(&proxy, "canary tenant:globex");
    acme.query("select relname from pg_class limit 1").ok();
    canary.query("select typname from pg_type limit 1").ok();
    canary.query("create temporary table canary (n int)").ok();
    let guarded = [
        "/api/v1/queries",
        "/api/v1/history",
        "/api/v1/findings",
        "/api/v1/findings/export?format=ndjson",
        "/api/v1/tenants",
        "/api/v1/clients",
        "/api/v1/plans",
        "/api/v1/untracked",
    ];
    for path in guarded {
        let (own, all) = (ask(&proxy, path, "token-of-acme"), ask(&proxy, path, "operator"));
        assert_eq!((own.status, all.status), (200, 200), "{path}");
        assert!(
            !own.body.contains("canary") && !own.body.contains("globex") && !own.body.contains("typname"),
            "{path}: {}",
            own.body
        );
    }
    for path in ["/metrics", "/api/v1/config", "/api/v1/pools", "/api/v1/applications", "/api/v1/queries?tenant=globex"]
    {
        let refused = ask(&proxy, path, "token-of-acme");
        assert_eq!(refused.status, 403, "{path}");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let queries = ask(&proxy, "/api/v1/queries", "token-of-acme").json();
    assert_eq!(queries["total"], 1, "{queries}");
    assert!(queries["queries"][0]["text"].as_str().unwrap().contains("relname"), "{queries}");
    for (path, seen) in [("/api/v1/clients", "canary"), ("/api/v1/untracked", "canary"), ("/api/v1/queries", "typname")]
    {
        assert!(ask(&proxy, path, "operator").body.contains(seen), "{path}: it is there to be seen");
    }
    assert_eq!(ask(&proxy, "/api/v1/queries", "token-of-globex").status, 401);
}

#[test]
fn a_class_is_accounted_for_by_its_name_over_a_reload() {
    let classify = "[[tenant.classify]]\nclass = 'batch'\nfrom = 'application_name'\npattern = '^batch'\n";
    let of = |more: &str| tenants(&format!("{RULES}{more}[tenant.class.worker]\nmax_rows = 5\n"));
    let mut settings = None;
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(4).with(|settings| settings.tenants = of(""));
        settings = Some(proxy.settings());
        proxy
    });
    let client_of = |application: &str| site.client_with(&[("application_name", application)]);
    let mut worker = client_of("worker tenant:acme");
    let series = "select * from generate_series(1, 9)";
    assert_eq!(worker.query(series).error().code(), "53400");
    // A class that comes before it in the order of names, of which one client is allowed.
    let before = of(&format!("{classify}[tenant.class.batch]\nmax_clients = 1\nmax_upstreams = 1\n"));
    site.reload(config::Settings { tenants: before, ..settings.clone().unwrap() });
    assert_eq!(worker.query(series).error().code(), "53400", "it is a worker still");
    let classes = || {
        let page = http::fetch(site.admin(), "/api/v1/tenants?tenant=acme").json();
        page["tenants"][0]["classes"].clone()
    };
    let told = classes();
    assert_eq!(
        (&told["worker"]["clients"], &told["worker"]["limits_reached"]["max_rows"]["enforced"]),
        (&1.into(), &2.into()),
        "{told:#}"
    );
    assert!(told["batch"]["limits_reached"].as_object().is_none_or(serde_json::Map::is_empty), "{told:#}");
    let mut batch = client_of("batch tenant:acme");
    assert_eq!(batch.query(series).rows().len(), 9, "nobody else is of its class");
    let told = classes();
    assert_eq!((&told["worker"]["clients"], &told["batch"]["clients"]), (&1.into(), &1.into()), "{told:#}");
}
