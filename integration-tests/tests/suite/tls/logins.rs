//! Logins by certificate: the common name, an alternative name, and the maps between such a name and a user.

use config::{AuthMethod, CertName, IdentMaps, Settings, TlsMode};
use integration_tests::{Cluster, Proxy, Scratch, eventually, frontend, http, tenants};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::wire::{asked, exchange, secure, secure_as, startup};
use super::{papers, proxy_with, psql};

/// A proxy that lets in by certificate alone.
fn by_certificate(change: impl FnOnce(&mut Settings)) -> Proxy {
    let tls = papers().client_tls(TlsMode::Require, true);
    let proxy = proxy_with(tls).with(|settings| {
        settings.auth.method = AuthMethod::Cert;
        // The server trusts: who the user is was proven to the proxy.
        settings.users.clear();
        change(settings);
    });
    proxy.start()
}

/// Logs in as `user` with a certificate that has this common name and these alternative names; says who the server
/// sees, or the error's code.
fn outcome(proxy: &Proxy, name: &str, others: &[&str], user: &str) -> Result<String, String> {
    let signed = papers().authority.sign(name, others);
    let folder = Scratch::new();
    let cert = folder.file("own.crt", &signed.cert);
    let key = folder.file("own.key", &signed.key);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let parameters = format!("user={user} sslmode=require sslcert={} sslkey={}", cert.display(), key.display());
    psql(proxy.address().port(), &parameters, "select current_user")
}

/// What the refusal says by its code, which psql does not show.
fn refusal(proxy: &Proxy, identity: Option<(&str, &[&str])>) -> String {
    let stream = asked(proxy.address());
    let mut stream = match identity {
        Some((name, others)) => {
            let signed = papers().authority.sign(name, others);
            let cert = CertificateDer::from_pem_slice(signed.cert.as_bytes()).unwrap();
            secure_as(stream, cert, PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap())
        }
        None => secure(stream, None),
    };
    let startup = frontend::startup(3 << 16, &[("user", "anna"), ("database", "postgres")]);
    let said = exchange(&mut stream, &startup, b'E').unwrap();
    let text = String::from_utf8_lossy(&said).into_owned();
    let code = text.split('\0').find_map(|field| field.strip_prefix('C')).map(str::to_owned);
    code.unwrap_or_else(|| panic!("no code in {text:?}"))
}

#[test]
fn the_common_name_is_the_user() {
    let proxy = by_certificate(|_| {});
    assert_eq!(outcome(&proxy, "anna", &[], "anna").unwrap(), "anna");
    for (name, others) in [("bob", &[][..]), ("ANNA", &[]), ("anna.evil", &[]), ("bob", &["anna"])] {
        let refused = outcome(&proxy, name, others, "anna").unwrap_err();
        assert!(refused.contains("certificate authentication failed for user \"anna\""), "{name}: {refused}");
        assert_eq!(refusal(&proxy, Some((name, others))), "28000", "{name}");
    }
    assert_eq!(refusal(&proxy, None), "28000", "no certificate at all");
}

#[test]
fn the_common_name_is_mapped_to_users() {
    let maps = "staff anna.smith anna\nstaff /^(.*)@example\\.com$ \\1\nother bob anna\n";
    let proxy = by_certificate(|settings| {
        settings.auth.maps = IdentMaps::parse(maps).unwrap();
        settings.auth.map = Some("staff".to_owned());
    });
    assert_eq!(outcome(&proxy, "anna.smith", &[], "anna").unwrap(), "anna");
    assert_eq!(outcome(&proxy, "anna@example.com", &[], "anna").unwrap(), "anna");
    for stranger in ["anna", "bob", "carl@example.com", "anna@example.com.evil"] {
        assert_eq!(refusal(&proxy, Some((stranger, &[]))), "28000", "{stranger}");
    }
}

#[test]
fn an_alternative_name_is_the_user_or_is_mapped_to_one() {
    let plain = by_certificate(|settings| settings.auth.cert_name = CertName::Alternative);
    assert_eq!(outcome(&plain, "whoever", &["web.test", "anna"], "anna").unwrap(), "anna");
    // Where alternative names count, the common name does not.
    assert_eq!(refusal(&plain, Some(("anna", &["web.test"]))), "28000");
    let rules = "hostssl all all 127.0.0.1/32 cert clientname=SAN map=hosts\nhost all all all reject\n";
    let mapped = by_certificate(|settings| {
        settings.auth.hba = Some(config::hba::parse(rules).unwrap());
        settings.auth.maps = IdentMaps::parse("hosts /^app[0-9]+\\.test$ anna\n").unwrap();
    });
    assert_eq!(outcome(&mapped, "whoever", &["web.test", "app17.test"], "anna").unwrap(), "anna");
    assert_eq!(refusal(&mapped, Some(("anna", &["anna", "app.test"]))), "28000");
}

#[test]
fn a_certificate_is_asked_for_besides_a_password() {
    let rules = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n";
    let tls = papers().client_tls(TlsMode::Require, true);
    let proxy = proxy_with(tls).with(|s| s.auth.hba = Some(config::hba::parse(rules).unwrap())).start();
    assert_eq!(outcome(&proxy, "anna", &[], "anna").unwrap(), "anna");
    assert_eq!(refusal(&proxy, Some(("bob", &[]))), "28000");
    assert_eq!(refusal(&proxy, None), "28000");
}

#[test]
fn copies_pass_over_tls_on_both_sides() {
    let papers = papers();
    let server = Cluster::builder()
        .tls(&papers.server, papers.authority.pem())
        .rules("hostnossl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust\n")
        .start();
    server.create_role("anna", None);
    server.run("postgres", "create table lines (n int primary key, line text); grant all on lines to public");
    let upstream = config::UpstreamTls {
        mode: TlsMode::VerifyFull,
        authorities: Some(config::Authorities::File(papers.authority.file())),
        ..config::UpstreamTls::default()
    };
    let proxy = Proxy::before(server.address())
        .size(1)
        .with(|settings| {
            settings.tls = papers.client_tls(TlsMode::Require, false);
            settings.auth.method = AuthMethod::Trust;
            settings.wildcard.as_mut().unwrap().upstream.tls = std::sync::Arc::new(upstream);
        })
        .start();
    let run = |sql: &str| psql(proxy.address().port(), "user=anna sslmode=require", sql);
    assert_eq!(run("select ssl from pg_stat_ssl where pid = pg_backend_pid()").unwrap(), "t");
    let rows: String = (0..50_000).map(|n| format!("{n}\t{}\n", "x".repeat(200))).collect();
    let file = papers.folder.file("both", &rows);
    run(&format!("\\copy lines from '{}'", file.display())).unwrap();
    let back = papers.folder.path().join("both.back");
    run(&format!("\\copy (select * from lines order by n) to '{}'", back.display())).unwrap();
    assert!(std::fs::read(&file).unwrap() == std::fs::read(&back).unwrap());
    // One that the server refuses in its middle, and one whose client breaks off: nothing of them is left behind.
    let again = run(&format!("\\copy lines from '{}'", file.display())).unwrap_err();
    assert!(again.contains("duplicate key"), "{again}");
    let half = papers.folder.file("half", "60000\tfine\n60001\tfine\n60002");
    let broken = run(&format!("\\copy lines from '{}'", half.display())).unwrap_err();
    assert!(broken.contains("missing data for column"), "{broken}");
    assert_eq!(run("select count(*) from lines").unwrap(), "50000");
}

#[test]
fn the_certificate_names_the_tenant_whatever_the_client_sets() {
    let rules = tenants(
        "[[tenant.rule]]\nfrom = 'certificate'\npattern = '{tenant}.clients.example'\n\
         [[tenant.rule]]\nfrom = 'setting'\nname = 'app.tenant_id'\n",
    );
    let proxy = proxy_with(papers().client_tls(TlsMode::Require, true)).with(|settings| {
        settings.auth.method = AuthMethod::Trust;
        settings.tenants = rules;
    });
    let proxy = proxy.start();
    let tenant = || {
        let clients = http::fetch(proxy.admin(), "/api/v1/clients").json()["clients"].as_array().cloned().unwrap();
        assert_eq!(clients.len(), 1, "{clients:?}");
        clients[0]["tenant"].as_str().unwrap().to_owned()
    };
    for (name, first, later) in [("acme.clients.example", "acme", "acme"), ("somebody", "default", "globex")] {
        let signed = papers().authority.sign(name, &[]);
        let cert = CertificateDer::from_pem_slice(signed.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
        let mut stream = secure_as(asked(proxy.address()), cert, key);
        exchange(&mut stream, &startup(), b'Z').unwrap();
        assert_eq!(tenant(), first, "{name}");
        // The rules are asked anew.
        exchange(&mut stream, &frontend::query("set app.tenant_id = 'globex'"), b'Z').unwrap();
        exchange(&mut stream, &frontend::query("select 1"), b'Z').unwrap();
        assert_eq!(tenant(), later, "{name}");
        drop(stream);
        eventually("it has gone", || http::fetch(proxy.admin(), "/api/v1/clients").json()["total"] == 0);
    }
}
