//! The admin port as others reach it: TLS, tokens with roles, sessions, and what it never shows.

use std::io::Write as _;
use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::certificates::{Authority, Signed};
use integration_tests::patience::PATIENCE;
use integration_tests::process::pgweir;
use integration_tests::{Child, Cluster, ProxyProcess, Scratch, Signal, Site, eventually, frontend, http, secure};

/// Writes a certificate and its key where the configuration names them.
fn renew(folder: &Scratch, own: &Signed) {
    folder.file("admin.crt", &own.cert);
    folder.file("admin.key", &own.key);
}

fn config(more: &str) -> String {
    format!(
        "listen = \"{{listen}}\"\n[admin]\nlisten = \"{{admin}}\"\ntls_cert_file = \"admin.crt\"\ntls_key_file = \"admin.key\"\n{more}\n\
         [databases.\"*\"]\nupstream = \"postgres://{}\"\n",
        Cluster::shared().address()
    )
}

/// What a command says: exit code, and standard output or error.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = pgweir(arguments);
    command.envs(variables.iter().copied());
    let folder = Scratch::new();
    let out = std::fs::File::create(folder.path().join("out")).unwrap();
    command.stdout(out.try_clone().unwrap()).stderr(out);
    let code = Child::spawn(&mut command).wait_for(PATIENCE).and_then(|status| status.code());
    (code, std::fs::read_to_string(folder.path().join("out")).unwrap())
}

/// A request over TLS, believing this authority; `Err`: no connection or nothing.
fn ask(proxy: &ProxyProcess, authority: &Authority, path: &str, token: &str) -> std::io::Result<String> {
    let config = std::sync::Arc::new(secure::believing(authority).with_no_client_auth());
    let mut stream = secure::speaking(config, secure::connected(proxy.admin()));
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    Ok(answer)
}

#[test]
fn the_port_speaks_tls_and_a_reload_takes_a_new_certificate() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let folder = Scratch::new();
    renew(&folder, &first.sign("pgweir", &["localhost"]));
    let ca = folder.file("ca.crt", first.pem());
    let text = config("[admin.access.grafana]\nrole = \"viewer\"\ntoken = \"of grafana\"");
    let proxy = ProxyProcess::with_config_in(folder, &text);
    let answer = ask(&proxy, &first, "/api/v1/pools", "of grafana").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(ask(&proxy, &first, "/api/v1/pools", "wrong").unwrap().starts_with("HTTP/1.1 401 "));
    assert!(ask(&proxy, &second, "/api/v1/pools", "of grafana").is_err(), "it is not believed");

    // Whoever speaks in clear text is told, and tells nothing.
    let clear = http::fetch(proxy.admin(), "/livez");
    assert_eq!(clear.status, 400);
    assert!(clear.body.contains("https://"), "{}", clear.body);

    let port = proxy.admin().port();
    let secure = format!("https://localhost:{port}");
    let believed = [("PGWEIR_ADMIN_CA", ca.to_str().unwrap())];
    assert_eq!(run(&["health", "--admin", &secure], &believed), (Some(0), "ready\n".to_owned()));
    assert_eq!(run(&["health", "--admin", &format!("127.0.0.1:{port}")], &[]), (Some(0), "ready\n".to_owned()));
    let (code, said) = run(&["health", "--admin", &secure], &[]);
    assert!(code == Some(1) && said.contains("certificate"), "{said}");
    let (code, said) = run(&["health", "--admin", &format!("https://127.0.0.1:{port}")], &believed);
    assert!(code == Some(1) && said.contains("certificate"), "it is for another name: {said}");
    let token = ("PGWEIR_ADMIN_TOKEN", "of grafana");
    let (code, said) = run(&["capture", "--admin", &secure, "--stop"], &[believed[0], token]);
    assert!(code == Some(1) && said.contains("viewer's token"), "{said}");

    renew(proxy.folder(), &second.sign("pgweir", &["localhost"]));
    proxy.child.signal(Signal::Hangup);
    eventually("the new certificate is shown", || ask(&proxy, &second, "/livez", "").is_ok());
    assert!(ask(&proxy, &first, "/livez", "").is_err());
    // One that cannot be used changes nothing.
    proxy.folder().file("admin.crt", "no certificate");
    proxy.child.signal(Signal::Hangup);
    eventually("the reload is refused", || proxy.log().contains("configuration not changed"));
    assert!(ask(&proxy, &second, "/livez", "").is_ok());
}

#[test]
fn a_port_beyond_loopback_needs_tokens_and_tls() {
    let folder = Scratch::new();
    renew(&folder, &Authority::new("a").sign("pgweir", &["localhost"]));
    let check = |admin: &str| {
        let text = format!("[admin]\nlisten = '0.0.0.0:0'\n{admin}\n[databases.a]\nupstream = 'postgres://h'\n");
        let file = folder.file("pgweir.toml", &text);
        run(&["check", "--config", file.to_str().unwrap()], &[])
    };
    let tls = "tls_cert_file = 'admin.crt'\ntls_key_file = 'admin.key'";
    for (admin, said) in [
        ("", "has no token"),
        (tls, "has no token"),
        ("token = 't'", "would cross it in clear text; set admin.tls_cert_file"),
    ] {
        let (code, complaint) = check(admin);
        assert!(code == Some(1) && complaint.contains(said), "{complaint}");
    }
    let (code, said) = check(&format!("token = '{}'\n{tls}", "x".repeat(40)));
    assert!(code == Some(0) && said.contains("0.0.0.0:0 (with a token, TLS)") && !said.contains("warning"), "{said}");
    let (code, said) = check(&format!("token = '{}'\ncleartext_beyond_loopback = true", "x".repeat(40)));
    assert!(code == Some(0) && said.contains("warning    admin.cleartext_beyond_loopback"), "{said}");
    let (_, printed) = run(&["token"], &[]);
    let line = printed.lines().nth(1).unwrap();
    let (code, said) = check(&format!("{line}\n{tls}"));
    assert!(code == Some(0) && !said.contains("warning"), "{said}");
    folder.file("admin.crt", "no certificate");
    let (code, said) = check(&format!("{line}\n{tls}"));
    assert!(code == Some(1) && said.contains("admin.crt"), "{said}");
}

/// Every path of the router that takes GET, as its source has them.
fn paths() -> Vec<String> {
    let source = include_str!("../../../proxy/src/admin/server.rs");
    let routes = source.split(".route(\"").skip(1);
    let gets = routes.filter(|route| route.split("\n        .").next().unwrap().contains("get("));
    let paths: Vec<String> = gets.map(|route| route.split('"').next().unwrap().to_owned()).collect();
    assert!(paths.len() > 25, "{paths:?}");
    paths
}

#[test]
fn no_constant_and_no_bound_value_is_shown_on_any_path() {
    const EVENTS: &str = "/api/v1/events";
    const CANARIES: [&str; 9] = [
        "canary-in-a-text",
        "9182736451",
        "canary-bound",
        "canary-copied",
        "canary-in-an-error",
        "canary-in-a-block",
        "canary-prepared",
        "canary-inserted",
        // How the numbers of rows begin, which are bound too.
        "4730000",
    ];
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(2).with(|settings| {
            settings.slow_log.threshold = Some(Duration::from_micros(1));
            settings.slow_log.plans = true;
            settings.observe.samples = false;
            settings.observe.profile = config::Profile::Development;
        })
    });
    let mut client = site.client();
    client.query("create table birds (id bigint, song text); create table nests (bird_id bigint, song text)").ok();
    client.query("insert into birds select 4730000000 + 7 * n, 'canary-inserted' from generate_series(1, 20) n").ok();
    client.query("select * from birds where song = 'canary-in-a-text' or id = 9182736451").ok();
    client.query("select * from birds where id in (9182736451, 1) order by song").ok();
    client.parse("", "select id from birds where song = $1").bind("", &["canary-bound"]);
    client.say(frontend::describe(b'P', "")).execute().sync().reply();
    client.query("prepare p as select id from birds where song = 'canary-prepared'");
    client.query("do $$ begin perform 'canary-in-a-block'; end $$");
    assert_eq!(client.query("select 'canary-in-an-error'::int").error().code(), "22P02");
    assert_eq!(client.query("select 'canary-in-an-error' frm birds 'canary-in-an-error'").error().code(), "42601");
    client.query("select count(*) from birds where song like '%canary-copied%'").ok();
    // Each of a list's rows asks for one row more: what a finding is made of.
    client.query("select id, song from birds").ok();
    for id in (1..=20).map(|n: u64| 4_730_000_000 + 7 * n) {
        client
            .parse("", "select song from nests where bird_id = $1")
            .bind("", &[&id.to_string()])
            .execute()
            .sync()
            .reply();
    }
    eventually("a finding is there", || {
        !http::fetch(site.admin(), "/api/v1/findings").json()["findings"].as_array().unwrap().is_empty()
    });
    eventually("a plan is there", || {
        !http::fetch(site.admin(), "/api/v1/plans").json()["plans"].as_array().unwrap().is_empty()
    });

    let queries = http::fetch(site.admin(), "/api/v1/queries?limit=1000").json();
    let queries = queries["queries"].as_array().unwrap();
    assert!(queries.len() >= 8 && queries.iter().any(|row| row["text"].as_str().unwrap().contains("birds")));
    let mut asked = 0;
    for path in paths() {
        let each: Vec<String> = match path.contains('{') {
            true => {
                queries.iter().map(|row| path.replace("{fingerprint}", row["fingerprint"].as_str().unwrap())).collect()
            }
            false => vec![path.clone(), format!("{path}?limit=1000")],
        };
        if path == EVENTS {
            // It goes on for minutes: what it begins with, and the first look of its own.
            let heard = http::beginning(site.admin(), &path, Duration::from_secs(3)).unwrap();
            assert!(heard.contains("event:"), "{heard}");
            CANARIES.iter().for_each(|canary| assert!(!heard.contains(canary), "{path} shows {canary}: {heard}"));
            continue;
        }
        for path in each {
            let answer = http::fetch(site.admin(), &path);
            asked += usize::from(answer.status == 200);
            for canary in CANARIES {
                assert!(
                    !answer.body.contains(canary) && !answer.head.contains(canary),
                    "{path} shows {canary}: {}",
                    answer.body
                );
            }
        }
    }
    assert!(asked > 30, "{asked}");
}
