//! The admin port's API against its own description: Schemathesis reads `/api/v1/openapi.json` and asks every operation for
//! what it says it takes, and for what it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::{Child, Cluster, ProxyProcess, RawClient, Scratch, http};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(150);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The fuzzer, where `.ci/setup` could install it.
fn fuzzer() -> Option<PathBuf> {
    let folder = root().join(".work/contract");
    let wanted = fs::read(root().join("integration-tests/contract/requirements.txt")).unwrap();
    let is_whole = fs::read(folder.join(".installed")).ok() == Some(wanted);
    if !is_whole {
        let why = format!(
            "Schemathesis is not in {}; `.ci/setup test` installs it where a Python package index can be reached",
            folder.display()
        );
        assert!(std::env::var_os("CI").is_none(), "{why}");
        println!("skipped: {why}");
    }
    is_whole.then(|| folder.join("bin/st"))
}

/// A proxy that has something to show on every path.
fn proxy() -> ProxyProcess {
    let upstream = Cluster::shared().address();
    ProxyProcess::with_config(&format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n\
         [tenant]\ndefault_name = 'acme'\n[tenant.limits.acme]\nmax_rows = 1000\n\
         [databases.postgres]\nupstream = 'postgres://postgres@{upstream}'\n"
    ))
}

#[test]
fn every_operation_is_as_it_is_described() {
    let Some(fuzzer) = fuzzer() else { return };
    let proxy = proxy();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    for number in 0..20 {
        client.query(format!("select {number}")).ok();
    }
    client.query("selekt 1").error();
    client.query("listen news").ok();
    let folder = Scratch::new();
    let log = folder.path().join("st.log");
    let out = fs::File::create(&log).unwrap();
    let mut command = Command::new(fuzzer);
    command
        .arg("--config-file")
        .arg(root().join("integration-tests/contract/schemathesis.toml"))
        .args(["run", &format!("http://{}/api/v1/openapi.json", proxy.admin()), "--no-color", "--report", "junit"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .current_dir(folder.path())
        .stdout(out.try_clone().unwrap())
        .stderr(out);
    let began = Instant::now();
    let status = Child::spawn(&mut command).wait_for(LIMIT);
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{status:?} after {:?}:\n{said}", began.elapsed());
    println!("{}", said.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    // It is still there, and serves.
    assert_eq!(http::fetch(proxy.admin(), "/livez").status, 200);
    http::change(proxy.admin(), "POST", "/api/v1/resume", "");
    http::change(proxy.admin(), "POST", "/api/v1/databases/postgres/enable", "");
    RawClient::login(proxy.address(), "postgres", "postgres").query("select 1").ok();
}
