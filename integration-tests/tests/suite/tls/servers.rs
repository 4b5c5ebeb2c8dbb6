//! TLS towards servers: libpq's modes against servers with, without and with nothing but TLS.

use std::io;
use std::sync::Arc;

use config::{Authorities, ChannelBinding, Secret, TlsMode, UpstreamTls};
use integration_tests::{Cluster, FakeUpstream, Hba, Proxy, RawClient};

use super::papers;

fn before(cluster: std::net::SocketAddr, tls: UpstreamTls) -> Proxy {
    Proxy::before(cluster).with(|settings| settings.wildcard.as_mut().unwrap().upstream.tls = Arc::new(tls)).start()
}

fn tls(mode: TlsMode) -> UpstreamTls {
    let authorities = (mode >= TlsMode::VerifyCa).then(|| Authorities::File(papers().authority.file()));
    UpstreamTls { mode, authorities, ..UpstreamTls::default() }
}

/// Whether the server connection of a new client has TLS; else why there is none.
fn outcome(proxy: &Proxy, user: &str) -> Result<bool, String> {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let login = RawClient::try_login(proxy.address(), &[("user", user), ("database", "postgres")], "");
    let mut client = login.map_err(|fields| format!("{} {:?}", fields.code(), fields))?;
    Ok(client.query(sql).value() == "t")
}

const ALL: [TlsMode; 6] =
    [TlsMode::Disable, TlsMode::Allow, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];

#[test]
fn every_mode_meets_every_kind_of_server() {
    let papers = papers();
    // The harness itself comes as the superuser, in clear text.
    for (rules, expected) in [
        // For each mode: TLS, clear text, or no connection.
        (
            "host all all 127.0.0.1/32 trust\n",
            [Some(false), Some(false), Some(true), Some(true), Some(true), Some(true)],
        ),
        (
            "hostnossl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust\n",
            [None, Some(true), Some(true), Some(true), Some(true), Some(true)],
        ),
        ("hostnossl all all 127.0.0.1/32 trust\n", [Some(false), Some(false), Some(false), None, None, None]),
    ] {
        let cluster = Cluster::builder().tls(&papers.server, papers.authority.pem()).rules(rules).start();
        cluster.create_role("anna", None);
        for (mode, expected) in ALL.into_iter().zip(expected) {
            let proxy = before(cluster.address(), tls(mode));
            let found = outcome(&proxy, "anna");
            assert_eq!(found.as_ref().ok().copied(), expected, "{mode:?} {rules}: {found:?}");
        }
    }
    let plain = Cluster::shared().address();
    for (mode, expected) in ALL.into_iter().zip([true, true, true, false, false, false]) {
        let found = outcome(&before(plain, tls(mode)), "postgres");
        assert_eq!(found == Ok(false), expected, "{mode:?}: {found:?}");
    }
}

#[test]
fn a_server_must_be_who_it_should_be() {
    let papers = papers();
    let elsewhere = papers.authority.sign("elsewhere", &["elsewhere.test"]);
    let expired = papers.authority.sign_expired("server", &["127.0.0.1"]);
    let unknown = papers.other.sign("server", &["127.0.0.1"]);
    for (own, believed) in [
        (&papers.server, [true, true, true]),
        (&elsewhere, [true, true, false]),
        (&expired, [true, false, false]),
        (&unknown, [true, false, false]),
    ] {
        let cluster = Cluster::builder().tls(own, papers.authority.pem()).start();
        for (mode, believed) in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull].into_iter().zip(believed) {
            let found = outcome(&before(cluster.address(), tls(mode)), "postgres");
            assert_eq!(found.is_ok(), believed, "{mode:?}: {found:?}");
            assert!(found.is_ok() || found.as_ref().unwrap_err().starts_with("08001"), "{found:?}");
        }
    }
}

#[test]
fn a_server_lets_the_proxy_in_by_its_certificate() {
    let papers = papers();
    let rules = "hostnossl all all 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 cert\n";
    let cluster = Cluster::builder().tls(&papers.server, papers.authority.pem()).rules(rules).start();
    cluster.create_role("anna", None);
    let mut own = tls(TlsMode::VerifyFull);
    assert!(outcome(&before(cluster.address(), own.clone()), "anna").is_err());
    own.identity = Some(papers.authority.sign("anna", &[]).identity());
    assert_eq!(outcome(&before(cluster.address(), own), "anna"), Ok(true));
}

#[test]
fn logins_to_servers_are_bound_to_their_connection() {
    let papers = papers();
    let scram = Cluster::builder().hba(Hba::Scram).tls(&papers.server, papers.authority.pem()).start();
    let clear = Cluster::builder().hba(Hba::Scram).start();
    for cluster in [&scram, &clear] {
        cluster.create_role("anna", Some("secret"));
    }
    let proxy = |cluster: &Cluster, mode, binding| {
        let tls = UpstreamTls { channel_binding: binding, ..tls(mode) };
        Proxy::before(cluster.address())
            .with(|settings| {
                let upstream = &mut settings.wildcard.as_mut().unwrap().upstream;
                upstream.tls = Arc::new(tls);
                upstream.password = Some(Secret::new("secret"));
            })
            .start()
    };
    for binding in [ChannelBinding::Disable, ChannelBinding::Prefer, ChannelBinding::Require] {
        assert_eq!(outcome(&proxy(&scram, TlsMode::VerifyFull, binding), "anna"), Ok(true), "{binding:?}");
    }
    assert_eq!(outcome(&proxy(&clear, TlsMode::Prefer, ChannelBinding::Prefer), "anna"), Ok(false));
    assert!(outcome(&proxy(&clear, TlsMode::Prefer, ChannelBinding::Require), "anna").is_err());
    // The superuser is trusted: nothing binds such a login.
    assert!(outcome(&proxy(&scram, TlsMode::VerifyFull, ChannelBinding::Require), "postgres").is_err());
}

#[test]
fn a_query_is_cancelled_over_tls() {
    let papers = papers();
    let rules = "hostnossl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust\n";
    let cluster = Cluster::builder().tls(&papers.server, papers.authority.pem()).rules(rules).start();
    cluster.create_role("anna", None);
    let proxy = before(cluster.address(), tls(TlsMode::VerifyFull));
    let mut client = RawClient::login(proxy.address(), "anna", "postgres");
    client.start_query("select pg_sleep(60)");
    let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
    integration_tests::eventually("it runs", || cluster.value("postgres", running) == "1");
    client.cancel();
    assert_eq!(client.reply().error().code(), "57014");
    assert_eq!(client.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").value(), "t");
}

#[test]
fn strange_answers_to_the_request_for_tls_are_refused() {
    for (answer, mode) in [
        (&b"N"[..], TlsMode::Require),
        (b"E\0\0\0\x0bSFATAL\0\0", TlsMode::Prefer),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", TlsMode::Prefer),
        (b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", TlsMode::Require),
        (b"NR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", TlsMode::Prefer),
        (b"", TlsMode::Prefer),
    ] {
        let upstream = FakeUpstream::start(move |connection| -> io::Result<()> {
            connection.read_raw(8)?;
            connection.send(answer)?;
            if answer.is_empty() { Ok(()) } else { connection.listen() }
        });
        let found = outcome(&before(upstream.address(), tls(mode)), "postgres");
        assert!(found.as_ref().is_err_and(|told| told.starts_with("08001")), "{answer:?}: {found:?}");
        assert_eq!(upstream.logins(), 0, "nothing was said to it in clear text");
    }
}
