//! What other programs make of the metrics.

use std::io::Write as _;
use std::process::{Command, Stdio};

use config::PoolMode::Transaction;
use integration_tests::{Site, http};

/// A proxy that has served a little of everything.
fn busy() -> Site {
    let site = Site::pooled(Transaction, 2);
    let mut client = site.client();
    for _ in 0..20 {
        client.query("select count(*) from pg_class").ok();
    }
    client.query("select 1 / 0");
    client.query("create temporary table kept (a int)").ok();
    http::fetch(site.admin(), "/api/v1/pools");
    site
}

/// What a program says about this input, and whether it is content.
fn told(command: &mut Command, input: &str) -> std::io::Result<(bool, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().unwrap().write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), text))
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let site = busy();
    let text = http::fetch(site.admin(), "/metrics").body;
    match told(Command::new("promtool").args(["check", "metrics"]), &text) {
        Ok((content, said)) => assert!(content && said.is_empty(), "{said}"),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool cannot be run: {error}; `make setup` installs it");
            println!("SKIPPED: promtool cannot be run ({error}); it is in Debian's package prometheus");
        }
    }
}

#[test]
fn both_formats_are_read_by_an_independent_reader() {
    let site = busy();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".work/venv/bin/python");
    assert!(python.exists(), "{} is missing: `make setup` installs it", python.display());
    for (format, accept, kind) in [
        ("openmetrics", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("text", "text/plain", "text/plain; version=0.0.4"),
    ] {
        let answer = http::request(site.admin(), "/metrics", &[("Accept", accept)]).unwrap();
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{}", answer.head);
        let program = root.join("integration-tests/drivers/python/openmetrics.py");
        let mut command = Command::new(&python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(program).arg(format);
        let (content, said) = told(&mut command, &answer.body).unwrap();
        assert!(content && said.ends_with("ok\n"), "{format}: {said}");
        let families: usize = said.lines().next().unwrap().parse().unwrap();
        assert!(families > 100, "{format}: {families} families");
    }
}
