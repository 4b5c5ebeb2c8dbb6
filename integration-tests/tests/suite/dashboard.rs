//! The dashboard in a real browser, in front of a proxy under the demo's load: `browser/dashboard.mjs` says what has to hold.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use integration_tests::demo::crew::Crew;
use integration_tests::demo::session::Target;
use integration_tests::demo::stage::Database;
use integration_tests::demo::tally::Tally;
use integration_tests::demo::{LIMITED_TENANT, PASSWORD, TENANTS, USER};
use integration_tests::{Child, ProxyProcess, Scratch, eventually, http};

/// How long the browser may take: it opens some eighty pages on a machine that is busy with the load.
const LIMIT: Duration = Duration::from_secs(280);
/// Tokens by what they open.
const OPERATOR: &str = "operator-0123456789abcdef0123456789abcdef";
const VIEWER: &str = "viewer-0123456789abcdef0123456789abcdef";
const OF_TENANT: &str = "tenant-0123456789abcdef0123456789abcdef";
/// The tenant that has a token of its own.
const TENANT: &str = TENANTS[0];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The distribution's browser. Its absence fails the test instead of leaving the pages unseen.
fn chromium() -> PathBuf {
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    known
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("there is no Chromium: `make setup` installs it"))
}

fn configuration(database: &Database) -> String {
    let (name, server) = (database.target().database, database.cluster().address());
    format!(
        r#"listen = "{{listen}}"

[admin]
listen = "{{admin}}"
token = "{OPERATOR}"

[admin.access.look]
role = "viewer"
token = "{VIEWER}"

[admin.tenant_token.own]
tenant = "{TENANT}"
token = "{OF_TENANT}"

[auth]
method = "scram-sha-256"

[users.{USER}]
password = "{PASSWORD}"

[databases.{name}]
upstream = "postgres://{server}/{name}"
size = 20

[slow_log]
threshold = "20ms"
plans = true

[[cache.rule]]
tables = ["*"]
ttl = "1m"
freshness = "ttl"

[[tenant.rule]]
from = "application_name"
pattern = "*:{{tenant}}"

[tenant.limits.{LIMITED_TENANT}]
statement_timeout = "400ms"

[tenant.limits.{TENANT}]
statement_timeout = "30s"
max_clients = 500
"#
    )
}

/// The demo's clients at work, until it is dropped.
struct Load {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(target: Target) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let crew = Crew::connect(&target, Arc::<Tally>::default()).await.unwrap();
                tokio::select! {
                    _ = crew.work(LIMIT * 2) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
fn the_dashboard_in_a_browser() {
    let chromium = chromium();
    let database = Database::make();
    let proxy = ProxyProcess::with_config(&configuration(&database));
    let target = Target { port: proxy.address().port(), database: database.target().database };
    let _load = Load::on(target);
    let token = format!("Bearer {OPERATOR}");
    let headers = [("Authorization", token.as_str())];
    eventually("the load has findings and a plan", || {
        let has = |path: &str| {
            let answer = http::request(proxy.admin(), path, &headers).unwrap();
            answer.json()["total"].as_u64().is_some_and(|total| total > 0)
        };
        has("/api/v1/findings?kind=n_plus_one") && has("/api/v1/plans")
    });
    let pictures = root().join(".work/dashboard");
    let folder = Scratch::new();
    let (out, errors) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let mut node = Command::new("node");
    node.arg(root().join("integration-tests/browser/dashboard.mjs"))
        .arg(chromium)
        .arg(format!("http://{}", proxy.admin()))
        .arg(&pictures)
        .args([OPERATOR, VIEWER, OF_TENANT, TENANT])
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&errors).unwrap());
    let status = Child::spawn(&mut node).wait_for(LIMIT);
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (said, complained) = (read(&out), read(&errors));
    println!("{said}\npictures: {}", pictures.display());
    let fine = status.is_some_and(|status| status.success());
    assert!(fine, "{status:?}\n{said}\n{complained}\n{}", proxy.log());
    let count = std::fs::read_dir(&pictures).unwrap().count();
    assert!(count >= 53, "only {count} pictures");
}
