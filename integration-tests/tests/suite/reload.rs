//! Reloads that nobody sends a signal for: by files that have changed, and by the admin port. What has changed is told.

use std::fs;
use std::time::Duration;

use integration_tests::{Cluster, ProxyProcess, RawClient, Scratch, eventually, http};
use serde_json::{Value, json};

/// A configuration with keys at its top, and more behind the database's table.
fn config(top: &str, more: &str) -> String {
    format!(
        "listen = '{{listen}}'\n{top}\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n\
         [databases.'*']\nupstream = 'postgres://postgres@{}'\n{more}",
        Cluster::shared().address()
    )
}

const WATCH: &str = "reload_on_change = true";

fn settings(proxy: &ProxyProcess) -> Value {
    http::fetch(proxy.admin(), "/api/v1/config").json()
}

fn size(proxy: &ProxyProcess) -> Value {
    settings(proxy)["wildcard"]["pool"]["size"].clone()
}

fn ask_for_a_reload(proxy: &ProxyProcess) -> http::Response {
    http::change(proxy.admin(), "POST", "/api/v1/reload", "")
}

#[test]
fn files_that_have_changed_are_read_without_a_signal_where_that_is_wanted() {
    let proxy = ProxyProcess::with_config(&config(WATCH, "size = 1\n"));
    let mut stays = RawClient::login(proxy.address(), "postgres", "postgres");
    proxy.rewrite(&config(WATCH, "size = 2\n"));
    eventually("the file is read", || size(&proxy) == 2);

    // A file that it names counts like itself, and a secret in it is not told.
    let password = |text: &str| drop(proxy.folder().file("bob.password", text));
    password("geheim-1");
    proxy.rewrite(&config(WATCH, "size = 2\n[users.bob]\npassword_file = 'bob.password'\n"));
    eventually("the user is there", || settings(&proxy)["users"]["bob"].is_object());
    let told = || proxy.log().lines().filter(|line| line.contains("users.bob.password")).count();
    let before = told();
    password("geheim-2");
    eventually("the password is read", || told() > before);
    assert!(!proxy.log().contains("geheim"), "{}", proxy.log());

    // A mistake changes nothing.
    proxy.rewrite(&config(WATCH, "size = 0\n"));
    eventually("it is refused", || settings(&proxy)["reload"]["error"].is_array());
    assert_eq!(size(&proxy), 2);
    proxy.rewrite(&config("", "size = 3\n"));
    eventually("it is put right, and no more files are watched", || size(&proxy) == 3);
    let reads = settings(&proxy)["reload"]["last"].clone();
    proxy.rewrite(&config("", "size = 4\n"));
    // Two looks and a half.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((size(&proxy), settings(&proxy)["reload"]["last"].clone()), (json!(3), reads));
    assert_eq!(ask_for_a_reload(&proxy).status, 200);
    assert_eq!(size(&proxy), 4);
    assert_eq!(stays.query("select 'not disturbed'").value(), "not disturbed");
}

#[test]
fn a_reload_over_the_admin_port_says_what_has_changed() {
    let proxy = ProxyProcess::with_config(&config("", "size = 1\n"));
    let bare = http::post(proxy.admin(), "/api/v1/reload", &[]);
    assert_eq!(bare.status, 403, "a page of another site could have sent that: {}", bare.body);
    assert_eq!(ask_for_a_reload(&proxy).json(), json!({"total": 0, "changes": []}));

    let more = "size = 3\n[users.bob]\npassword = 'geheim'\nmax_clients = 5\n[tenant.limits.acme]\nmax_rows = 10\n";
    proxy.rewrite(&config("workers = 7", more));
    let answer = ask_for_a_reload(&proxy);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.json();
    let change = |key: &str| {
        let mut all = page["changes"].as_array().unwrap().iter();
        all.find(|change| change["key"] == key).cloned().unwrap_or_else(|| panic!("{key} in {page:#}"))
    };
    let expected = json!({"key": "databases.\"*\".size", "old": "1", "new": "3", "needs_restart": false});
    assert_eq!(change("databases.\"*\".size"), expected);
    assert_eq!(change("workers")["needs_restart"], true);
    assert_eq!(
        change("users.bob.password"),
        json!({"key": "users.bob.password", "hidden": true, "needs_restart": false})
    );
    assert_eq!(change("tenant.limits.acme.max_rows")["old"], Value::Null);
    assert_eq!(page["total"], page["changes"].as_array().unwrap().len(), "{page:#}");
    eventually("the log tells of the change", || proxy.log().contains("need a restart"));
    let log = proxy.log();
    for said in ["setting changed", "databases.\"*\".size", "users.bob.password", "need a restart"] {
        assert!(log.contains(said) || log.contains(&said.replace('"', "\\\"")), "{said}: {log}");
    }
    assert!(!log.contains("geheim") && !answer.body.contains("geheim"), "{log}");
}

#[test]
fn a_reload_that_is_refused_is_a_problem_that_names_every_mistake() {
    let proxy = ProxyProcess::with_config(&config("", "size = 1\n"));
    proxy.rewrite(&config("", "size = 0\n[slow_log]\nthreshold = 'soon'\n"));
    let answer = ask_for_a_reload(&proxy);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (422, Some("application/problem+json")),
        "{}",
        answer.body
    );
    let page = answer.json();
    let errors = page["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{page:#}");
    assert!(errors[0].to_string().contains("size") && errors[1].to_string().contains("slow_log.threshold"), "{page:#}");
    assert!(page["detail"].as_str().unwrap().starts_with("nothing has changed: "), "{page:#}");
    assert_eq!(size(&proxy), 1);
    // Many changes: some are told one by one, the others counted.
    let tenants: String = (0..50).map(|number| format!("[tenant.limits.t{number}]\nmax_rows = 5\n")).collect();
    proxy.rewrite(&config("", &format!("size = 1\n{tenants}")));
    assert_eq!(ask_for_a_reload(&proxy).json()["total"], 100);
    // The log is written by a thread of its own.
    eventually("the log tells of the rest", || proxy.log().contains("further settings changed"));
    let told = proxy.log().lines().filter(|line| line.contains("setting changed")).count();
    assert_eq!(told, 20, "{}", proxy.log());
}

#[test]
fn limits_follow_the_files_of_tenants_while_clients_are_connected() {
    let folder = Scratch::new();
    let tenants = folder.path().join("tenants.d");
    fs::create_dir(&tenants).unwrap();
    let write = |name: &str, text: &str| fs::write(tenants.join(name), text).unwrap();
    write("acme.toml", "max_rows = 5\n");
    write("notes.txt", "not a tenant's");
    let rules = "[tenant]\ndirectory = 'tenants.d'\n[[tenant.rule]]\nfrom = 'application_name'\n\
                 [tenant.default]\nmax_rows = 1000\n";
    let proxy = ProxyProcess::with_config_in(folder, &config(WATCH, &format!("size = 2\n{rules}")));
    let client = |tenant: &str| {
        let parameters = [("user", "postgres"), ("database", "postgres"), ("application_name", tenant)];
        RawClient::login_with(proxy.address(), &parameters, "")
    };
    let (mut acme, mut globex) = (client("acme"), client("globex"));
    let is_limited = |client: &mut RawClient| {
        let reply = client.query("select * from generate_series(1, 10)");
        assert!(reply.errors().iter().all(|error| error.code() == "53400"), "{reply:?}");
        !reply.errors().is_empty()
    };
    assert!(is_limited(&mut acme) && !is_limited(&mut globex));

    write("acme.toml", "max_rows = 20\n");
    eventually("a changed file holds", || !is_limited(&mut acme));
    write("globex.toml", "max_rows = 3\n");
    eventually("a new file holds", || is_limited(&mut globex));
    // One mistake, and nothing of the others holds either.
    write("acme.toml", "max_rows = 5\n");
    write("hooli.toml", "max_row = 5\n");
    let error = || settings(&proxy)["reload"]["error"].clone();
    eventually("a mistake is told with its file and line", || error().to_string().contains("tenants.d/hooli.toml:1"));
    assert!(!is_limited(&mut acme), "{}", error());
    fs::remove_file(tenants.join("hooli.toml")).unwrap();
    eventually("the others hold without it", || is_limited(&mut acme));
    fs::remove_file(tenants.join("globex.toml")).unwrap();
    eventually("what is gone holds no more", || !is_limited(&mut globex));
    assert!(error().is_null(), "{}", error());
}

#[test]
fn a_reload_changes_rules_of_the_cache_and_says_that_the_first_ones_need_a_restart() {
    let rule = |ttl: &str| format!("[[cache.rule]]\ntables = ['runs']\nttl = '{ttl}'\n");
    let reload = |proxy: &ProxyProcess, more: &str| {
        proxy.rewrite(&config("", more));
        let page = ask_for_a_reload(proxy).json();
        let changes = page["changes"].as_array().unwrap().iter();
        changes.map(|change| (change["key"].clone(), change["needs_restart"].clone())).collect::<Vec<_>>()
    };
    let change = |key: &str, restart: bool| (json!(key), json!(restart));

    let without = ProxyProcess::with_config(&config("", ""));
    let first = format!("[cache]\nmode = 'on'\n{}", rule("1m"));
    assert_eq!(reload(&without, &first), [change("cache.rule", true), change("cache.mode", false)]);
    let why = ask_for_a_reload(&without).json()["changes"][0]["why"].clone();
    assert!(why.as_str().is_some_and(|why| why.contains("nothing is cached until a restart")), "{why}");
    eventually("the log says so", || {
        let log = without.log();
        log.contains("this change needs a restart this time") && log.contains("nothing is cached until a restart")
    });

    let with = ProxyProcess::with_config(&config("", &rule("1m")));
    assert_eq!(reload(&with, &format!("[cache]\nmode = 'on'\n{}", rule("2m"))).len(), 2);
    assert_eq!(reload(&with, &format!("[cache]\nmode = 'on'\n{}", rule("3m"))), [change("cache.rule", false)]);
    let wrong = format!("[cache]\nmode = 'on'\n{}", rule("0s"));
    proxy_refuses(&with, &wrong, "cache.rule[1].ttl");
}

fn proxy_refuses(proxy: &ProxyProcess, more: &str, key: &str) {
    proxy.rewrite(&config("", more));
    let answer = ask_for_a_reload(proxy);
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains(key), "{}", answer.body);
}
