//! Real libpq against every mode of the proxy.

use config::{Origin, TenantRule, TlsMode, TlsVersion};
use integration_tests::{Cluster, eventually, http};

use super::{papers, proxy_with, psql};

/// `in`, or what libpq complained of.
fn outcome(proxy: &integration_tests::Proxy, parameters: &str) -> String {
    let sql = "select 1";
    match psql(proxy.address().port(), &format!("user=anna {parameters}"), sql) {
        Ok(value) => {
            assert_eq!(value, "1");
            "in".to_owned()
        }
        Err(complaint) => complaint,
    }
}

#[test]
fn every_mode_of_libpq_meets_every_mode_of_the_proxy() {
    let papers = papers();
    let (root, anna) = (papers.path("ca.crt"), (papers.path("anna.crt"), papers.path("anna.key")));
    let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    for mode in [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let proxy = proxy_with(papers.client_tls(mode, mode >= TlsMode::VerifyCa)).start();
        for asked in modes {
            for shows in [false, true] {
                let mut parameters = format!("sslmode={asked} sslrootcert={root}");
                if shows {
                    parameters += &format!(" sslcert={} sslkey={}", anna.0, anna.1);
                }
                let insists = matches!(asked, "require" | "verify-ca" | "verify-full");
                let found = outcome(&proxy, &parameters);
                let told = |text: &str| assert!(found.contains(text), "{mode:?} {asked} {shows}: {found}");
                match mode {
                    TlsMode::Disable if insists => told("server does not support SSL"),
                    // libpq tries `allow` and `prefer` both ways, so that it finds the one that is let in.
                    TlsMode::Require if asked == "disable" => told("is not encrypted"),
                    TlsMode::VerifyCa | TlsMode::VerifyFull if asked == "disable" => told("is not encrypted"),
                    TlsMode::VerifyCa | TlsMode::VerifyFull if !shows => told("requires a valid client certificate"),
                    _ => told("in"),
                }
            }
        }
    }
}

#[test]
fn a_client_sees_whether_it_is_the_right_server() {
    let papers = papers();
    let proxy = proxy_with(papers.client_tls(TlsMode::Require, false)).start();
    let (root, other) = (papers.path("ca.crt"), papers.path("other.crt"));
    assert_eq!(outcome(&proxy, &format!("sslmode=verify-full sslrootcert={root}")), "in");
    assert_eq!(outcome(&proxy, &format!("sslmode=verify-full sslrootcert={root} host=acme.db.test")), "in");
    let wrong = outcome(&proxy, &format!("sslmode=verify-full sslrootcert={root} host=evil.test"));
    assert!(wrong.contains("does not match host name"), "{wrong}");
    assert_eq!(outcome(&proxy, &format!("sslmode=verify-ca sslrootcert={root} host=evil.test")), "in");
    let unknown = outcome(&proxy, &format!("sslmode=verify-ca sslrootcert={other}"));
    assert!(unknown.contains("certificate verify failed"), "{unknown}");
}

#[test]
fn certificates_of_clients_are_looked_at() {
    let papers = papers();
    let proxy = proxy_with(papers.client_tls(TlsMode::VerifyFull, true)).start();
    let root = papers.path("ca.crt");
    let with = |name: &str, user: &str| {
        let (cert, key) = (papers.path(&format!("{name}.crt")), papers.path(&format!("{name}.key")));
        let parameters = format!("user={user} sslmode=verify-full sslrootcert={root} sslcert={cert} sslkey={key}");
        psql(proxy.address().port(), &parameters, "select 1")
    };
    assert_eq!(with("anna", "anna"), Ok("1".to_owned()));
    let another = with("anna", "postgres").unwrap_err();
    assert!(another.contains("certificate authentication failed for user \"postgres\""), "{another}");
    for unbelieved in ["stranger", "expired"] {
        let refused = with(unbelieved, "anna").unwrap_err();
        assert!(refused.contains("alert"), "{unbelieved}: {refused}");
    }
}

#[test]
fn scram_is_bound_to_the_connection() {
    let papers = papers();
    let proxy = proxy_with(papers.client_tls(TlsMode::Prefer, false)).start();
    let root = papers.path("ca.crt");
    let bound = format!("sslmode=verify-full sslrootcert={root} channel_binding=require");
    assert_eq!(outcome(&proxy, &bound), "in");
    let clear = outcome(&proxy, "sslmode=disable channel_binding=require");
    assert!(clear.contains("channel binding"), "{clear}");
}

#[test]
fn old_versions_are_refused() {
    let papers = papers();
    let mut tls = papers.client_tls(TlsMode::Require, false);
    tls.min_version = TlsVersion::V1_3;
    let proxy = proxy_with(tls).start();
    let old = outcome(&proxy, "sslmode=require ssl_max_protocol_version=TLSv1.2");
    assert!(old.contains("alert protocol version"), "{old}");
    assert_eq!(outcome(&proxy, "sslmode=require ssl_min_protocol_version=TLSv1.3"), "in");
    let proxy = proxy_with(papers.client_tls(TlsMode::Require, false)).start();
    assert_eq!(outcome(&proxy, "sslmode=require ssl_max_protocol_version=TLSv1.2"), "in");
    let older = outcome(&proxy, "sslmode=require ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1");
    assert_ne!(older, "in");
}

#[test]
fn the_server_name_is_the_tenant_and_is_shown() {
    let papers = papers();
    let builder = proxy_with(papers.client_tls(TlsMode::Require, false));
    let proxy = builder
        .with(|s| s.tenants.rules = vec![TenantRule::by_pattern(Origin::ServerName, "{tenant}.db.test")])
        .start();
    let port = proxy.address().port();
    let runs =
        std::thread::spawn(move || psql(port, "user=anna sslmode=require host=ACME.db.test", "select pg_sleep(2)"));
    let mut seen = serde_json::Value::Null;
    eventually("the client is listed", || {
        seen = http::fetch(proxy.admin(), "/api/v1/clients").json();
        seen.to_string().contains("acme.db.test")
    });
    let client = seen.to_string();
    assert!(client.contains("\"tenant\":\"acme\"") && client.contains("TLSv1.3"), "{client}");
    assert!(runs.join().unwrap().is_ok());
}

#[test]
fn certificates_are_replaced_without_a_restart() {
    let papers = papers();
    let builder = proxy_with(papers.client_tls(TlsMode::Require, false));
    let (mut settings, proxy) = (builder.settings(), builder.start());
    let first = format!("sslmode=verify-ca sslrootcert={}", papers.path("ca.crt"));
    let second = format!("sslmode=verify-ca sslrootcert={}", papers.path("other.crt"));
    assert_eq!(outcome(&proxy, &first), "in");
    settings.tls.identity = Some(papers.other.sign("renewed", &["localhost"]).identity());
    proxy.reload(settings.clone());
    assert_eq!(outcome(&proxy, &second), "in");
    assert_ne!(outcome(&proxy, &first), "in");
    // A key that is another certificate's changes nothing.
    let mut wrong = settings.clone();
    let own = wrong.tls.identity.as_mut().unwrap();
    own.key = papers.server.identity().key;
    let refused = proxy.try_reload(wrong).unwrap_err().to_string();
    assert!(refused.contains("is not the key of the first certificate"), "{refused}");
    assert_eq!(outcome(&proxy, &second), "in");
}

#[test]
fn a_hundred_megabytes_pass_both_ways() {
    let papers = papers();
    let proxy = proxy_with(papers.client_tls(TlsMode::Require, false)).start();
    let port = proxy.address().port();
    Cluster::shared().run(
        "postgres",
        "create table if not exists tls_copy (line text); truncate tls_copy; grant all on tls_copy to public",
    );
    let file = papers.folder.file("lines", &format!("{}\n", "x".repeat(999)).repeat(100_000));
    let copy = format!("\\copy tls_copy from '{}'", file.display());
    psql(port, "user=anna sslmode=require", &copy).unwrap();
    let sum = "select count(*) || ' ' || sum(length(line)) from tls_copy";
    assert_eq!(psql(port, "user=anna sslmode=require", sum).unwrap(), "100000 99900000");
    let back = papers.folder.path().join("back");
    let copy = format!("\\copy tls_copy to '{}'", back.display());
    psql(port, "user=anna sslmode=require", &copy).unwrap();
    assert!(std::fs::read(file).unwrap() == std::fs::read(back).unwrap());
}

/// The sum of a metric's samples; `None`: it has none.
fn metric(admin: std::net::SocketAddr, name: &str) -> Option<f64> {
    let text = http::fetch(admin, "/metrics").body;
    let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).reduce(|sum, one| sum + one)
}

#[test]
fn handshakes_clients_and_the_end_of_the_certificate_are_metrics() {
    let papers = papers();
    let proxy = proxy_with(papers.client_tls(TlsMode::Require, false)).start();
    let admin = proxy.admin();
    assert_eq!(metric(admin, "pgweir_tls_handshakes_total"), Some(0.0));
    std::thread::scope(|scope| {
        let port = proxy.address().port();
        let client = scope.spawn(move || psql(port, "user=anna sslmode=require", "select pg_sleep(1)"));
        eventually("the client is counted", || metric(admin, "pgweir_tls_clients") == Some(1.0));
        client.join().unwrap().unwrap();
    });
    assert_eq!(metric(admin, "pgweir_tls_handshakes_total"), Some(1.0));
    eventually("it has left", || metric(admin, "pgweir_tls_clients") == Some(0.0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let end = metric(admin, "pgweir_tls_certificate_not_after_time_seconds").unwrap();
    assert!(end > now, "{end} is before {now}");

    // Without a certificate there is no such sample.
    let plain = integration_tests::Site::pooled(config::PoolMode::Transaction, 1);
    assert_eq!(metric(plain.admin(), "pgweir_tls_certificate_not_after_time_seconds"), None);
}
