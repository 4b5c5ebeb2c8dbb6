//! TLS with clients and with servers, as libpq's modes have it.

mod clients;
mod hostile;
mod logins;
mod servers;
mod wire;

use std::process::Command;
use std::sync::OnceLock;

use config::{AuthMethod, ClientTls, Secret, TlsMode, User, UserSecret};
use integration_tests::certificates::{Authority, Signed};
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, Proxy, Scratch};

/// What the tests of this file share: an authority, a server's certificate for localhost, and files for libpq.
struct Papers {
    authority: Authority,
    other: Authority,
    server: Signed,
    folder: Scratch,
}

fn papers() -> &'static Papers {
    static PAPERS: OnceLock<Papers> = OnceLock::new();
    PAPERS.get_or_init(|| {
        let (authority, other) = (Authority::new("tests"), Authority::new("others"));
        let server = authority.sign("server", &["localhost", "127.0.0.1", "acme.db.test"]);
        let folder = Scratch::new();
        folder.file("ca.crt", authority.pem());
        folder.file("other.crt", other.pem());
        for (name, signed) in [
            ("anna", authority.sign("anna", &[])),
            ("stranger", other.sign("anna", &[])),
            ("expired", authority.sign_expired("anna", &[])),
        ] {
            folder.file(&format!("{name}.crt"), &signed.cert);
            let key = folder.file(&format!("{name}.key"), &signed.key);
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Papers { authority, other, server, folder }
    })
}

impl Papers {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// TLS towards clients.
    fn client_tls(&self, mode: TlsMode, asks: bool) -> ClientTls {
        ClientTls {
            mode,
            identity: Some(self.server.identity()),
            authorities: asks.then(|| self.authority.file()),
            ..ClientTls::default()
        }
    }
}

/// A proxy with SCRAM logins of `anna` and TLS towards clients.
fn proxy_with(tls: ClientTls) -> Builder {
    let cluster = Cluster::shared();
    static ANNA: OnceLock<()> = OnceLock::new();
    ANNA.get_or_init(|| {
        drop(
            cluster.run(
                "postgres",
                "do $$ begin create role anna login; exception when duplicate_object then null; end $$",
            ),
        )
    });
    Proxy::before(cluster.address()).with(|settings| {
        settings.tls = tls;
        settings.auth.method = AuthMethod::ScramSha256;
        let anna = User::from(UserSecret::Plain(Secret::new("secret")));
        settings.users.insert("anna".to_owned(), anna);
    })
}

/// Runs psql, and gives what it printed, or what it complained about.
fn psql(port: u16, parameters: &str, sql: &str) -> Result<String, String> {
    let parameters =
        format!("host=localhost hostaddr=127.0.0.1 port={port} dbname=postgres connect_timeout=10 {parameters}");
    let out = Command::new("timeout")
        .args(["60"])
        .arg(Cluster::shared().program("psql"))
        .args(["-X", "-Atq", "-v", "ON_ERROR_STOP=1", &parameters, "-c", sql])
        .env_clear()
        .env("PGPASSWORD", "secret")
        .env("HOME", papers().folder.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}
