//! The real binary's command line: mistakes at start are told in words and by the exit code.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Output, Stdio};

use integration_tests::process::pgweir;
use integration_tests::{Child, Scratch};

/// Runs it to its end, which must come by itself.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = pgweir(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// One clear line: which setting, what is wrong, no backtrace, and an exit code that scripts see.
fn is_refused(arguments: &[&str], words: &[&str]) {
    let (code, _, complaint) = run(arguments);
    assert!(code.is_some_and(|code| code != 0), "{arguments:?} ended with {code:?}: {complaint}");
    for word in words {
        assert!(complaint.contains(word), "{arguments:?} does not mention {word}: {complaint}");
    }
    assert!(!complaint.contains("panicked") && !complaint.contains("RUST_BACKTRACE"), "{complaint}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let upstream = ["--upstream", "postgres://a@127.0.0.1:1/b", "--auth", "trust"];
    is_refused(
        &[&["serve", "--listen", &address, "--admin", "off"], &upstream[..]].concat(),
        &[&address, "another program uses this port"],
    );
    is_refused(&[&["serve", "--listen", "127.0.0.1:0", "--admin", &address], &upstream[..]].concat(), &[&address]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    is_refused(&["serve", "--config", "/no/such/file.toml"], &["/no/such/file.toml"]);
    is_refused(&["check", "--config", "/no/such/file.toml"], &["/no/such/file.toml"]);
}

#[test]
fn a_server_without_an_upstream_says_what_to_give_it() {
    is_refused(&["serve", "--listen", "127.0.0.1:0"], &["upstream"]);
    is_refused(&["serve", "--upstream", "mysql://a@b/c"], &["postgres://"]);
}

#[test]
fn every_mistake_in_a_file_is_told_at_once() {
    let folder = Scratch::new();
    let text = "workers = 'many'\n[pool]\nsise = 5\nmode = 'transactions'\nqueue_timeout = 'soon'\n";
    let file = folder.file("pgweir.toml", text);
    let file = file.to_str().unwrap();
    for command in ["check", "serve"] {
        is_refused(&[command, "--config", file], &["workers", "pool.sise", "pool.mode", "pool.queue_timeout", ":3"]);
    }
}

#[test]
fn a_file_without_a_mistake_passes_the_check() {
    let folder = Scratch::new();
    let text = "[databases.app]\nupstream = 'postgres://app@127.0.0.1:5432/app'\n";
    let file = folder.file("pgweir.toml", text);
    let (code, _, complaint) = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{complaint}");
}

#[test]
fn an_admin_port_open_to_the_network_needs_a_token() {
    let upstream = ["--upstream", "postgres://a@127.0.0.1:1/b"];
    is_refused(&[&["serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"], &upstream[..]].concat(), &["token"]);
}

/// What a command prints for this input.
fn filter(arguments: &[&str], input: &str) -> String {
    let mut command = pgweir(arguments);
    let mut child = Child::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    child.pipes().stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.pipes().stdout.take().unwrap();
    std::io::read_to_string(output).unwrap()
}

#[test]
fn fingerprints_are_printed_line_by_line() {
    let input = "\"select 1\"\n\"SELECT  2 -- two\"\n\"select $1\"\n\"delete from t where id in (1,2)\"\n";
    let printed = filter(&["fingerprint"], input);
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 4, "{printed}");
    assert!(lines.iter().all(|line| line.len() == 3), "{printed}");
    assert_eq!(lines[0], lines[1], "what differs in case, blanks, comments and literals only is the same");
    assert_ne!(lines[0][0], lines[2][0], "a literal and a parameter differ strictly");
    assert_eq!(lines[0][1], lines[2][1], "and are of one family");
    let text: String = serde_json::from_str(lines[3][2]).unwrap();
    assert!(text.starts_with("delete from t"), "{text}");
}

#[test]
fn a_policy_is_explained_for_a_login_and_a_statement() {
    let folder = Scratch::new();
    let text = "[databases.app]\nupstream = 'postgres://app@127.0.0.1:5432/app'\n\
                [[tenant.rule]]\nfrom = 'user'\nseparator = '.'\n\
                [[tenant.classify]]\nclass = 'worker'\nfrom = 'application_name'\npattern = '^worker'\n\
                [tenant.default]\nstatement_timeout = '30s'\n\
                [tenant.class.worker]\nstatement_timeout = '5m'\n\
                [tenant.limits.acme]\nread_only = true\n";
    let file = folder.file("pgweir.toml", text);
    let file = file.to_str().unwrap();
    let asked = ["explain-policy", "--config", file, "--user", "app.acme", "--application", "worker 7"];
    let (code, page, complaint) = run(&[&asked[..], &["--sql", "delete from runs"]].concat());
    assert_eq!(code, Some(0), "{complaint}");
    for said in [
        "acme, by tenant.rule[1] (from user behind \".\")",
        "worker, by tenant.classify[1] (from application_name)",
        "[tenant.class.worker]",
        "refused: 25006",
        "refused by read_only",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let (_, page, _) = run(&[&asked[..], &["--json"]].concat());
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["limits"]["statement_timeout_ms"]["value"], 300_000, "{page:#}");
    let (_, summary, _) = run(&["check", "--config", file]);
    assert!(summary.contains("pgweir explain-policy"), "{summary}");

    is_refused(&["explain-policy", "--config", "/no/such/file.toml", "--user", "app"], &["/no/such/file.toml"]);
    let (code, _, complaint) = run(&[&asked[..], &["--option", "nothing"]].concat());
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("name=value"), "{complaint}");
}
