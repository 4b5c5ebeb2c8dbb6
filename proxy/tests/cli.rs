//! The real binary: exit codes and what stands on which stream.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test fails the test by a panic")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `pgweir` with these arguments and none of its variables.
fn pgweir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgweir"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PGWEIR_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    told(&pgweir(arguments).output().unwrap())
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A file in a folder of its own, removed with the value.
struct Written(PathBuf);

impl Written {
    fn new(test: &str, content: &[u8]) -> Self {
        let folder = std::env::temp_dir().join(format!("pgweir-cli-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pgweir.toml"), content).unwrap();
        Self(folder)
    }

    fn beside(self, name: &str, content: &str) -> Self {
        std::fs::write(self.0.join(name), content).unwrap();
        self
    }

    fn path(&self) -> String {
        self.0.join("pgweir.toml").display().to_string()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn check_tells_what_a_valid_file_means_without_its_secrets() {
    let file = Written::new(
        "valid",
        b"[databases.app]\nupstream = 'postgres://svc:geheim@db.example/app'\n[users.anna]\npassword_file = 'anna.secret'\n",
    )
    .beside("anna.secret", "streng\n");
    let (code, out, err) = run(&["check", "--config", &file.path()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("app -> svc at db.example:5432/app, transaction mode, 20 connections"), "{out}");
    assert!(out.contains("passthrough; 1 users listed"), "{out}");
    assert!(!out.contains("geheim") && !out.contains("streng"), "{out}");
}

#[test]
fn check_names_every_mistake_with_file_line_and_key() {
    let file = Written::new("wrong", b"workers = 0\nlisten = 'here'\n[pool]\nsise = 5\nqueue_timeout = 5\n");
    let (code, out, err) = run(&["check", "--config", &file.path()]);
    let lines: Vec<&str> = err.lines().collect();
    let path = file.path();
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(lines.len(), 4, "{err}");
    assert!(lines[0].starts_with(&format!("{path}:1: workers: ")), "{err}");
    assert!(lines[1].starts_with(&format!("{path}:2: listen: ")), "{err}");
    assert_eq!(lines[2], format!("{path}:4: pool.sise: there is no such key; did you mean size?"));
    assert!(lines[3].starts_with(&format!("{path}:5: pool.queue_timeout: ")), "{err}");
}

#[test]
fn files_that_cannot_be_read_are_told_in_one_line() {
    let binary = Written::new("binary", b"listen = 'x'\n\xff\n");
    let folder = binary.0.display().to_string();
    for (path, expected) in [
        ("/nowhere/pgweir.toml".to_owned(), "/nowhere/pgweir.toml: cannot be read: "),
        (folder.clone(), "cannot be read: "),
        (binary.path(), "pgweir.toml:2: not UTF-8 text"),
    ] {
        for command in ["check", "serve"] {
            let (code, out, err) = run(&[command, "--config", &path]);
            assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
            assert!(err.contains(expected), "{err}");
        }
    }
}

#[test]
fn serve_without_an_upstream_says_what_to_do() {
    let (code, _, err) = run(&["serve"]);
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    assert!(err.contains("--upstream URL"), "{err}");
}

#[test]
fn wrong_flags_and_variables_are_named_without_secrets() {
    let upstream = "postgres://u:geheim@h:x/d";
    let (code, _, err) = run(&["serve", "--upstream", upstream, "--pool-mode", "transactoin", "--listen", "6432"]);
    assert_eq!((code, err.lines().count()), (1, 3), "{err}");
    assert!(err.contains("--upstream: upstream: has a port") && !err.contains("geheim"), "{err}");
    assert!(
        err.contains("--pool-mode: pool.mode: \"transactoin\"") && err.contains("did you mean transaction?"),
        "{err}"
    );
    assert!(err.contains("--listen: listen: "), "{err}");

    let output = pgweir(&["serve"]).env("PGWEIR_UPSTREAM", "nonsense").env("PGWEIR_WORKERS", "many").output().unwrap();
    let (code, _, err) = told(&output);
    assert_eq!((code, err.lines().count()), (1, 2), "{err}");
}

#[test]
fn the_admin_port_stays_on_loopback_without_a_token() {
    let (code, _, err) = run(&["serve", "--upstream", "postgres://h/d", "--admin", "0.0.0.0:6433"]);
    assert_eq!((code, err.lines().count()), (1, 1));
    assert!(err.starts_with("--admin: admin.listen: ") && err.contains("admin.token"), "{err}");
}

#[test]
fn unknown_arguments_end_with_code_2() {
    for arguments in [&["serve", "--pool-sise", "5"][..], &["sreve"], &[]] {
        assert_eq!(run(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn version_and_help_name_the_program() {
    let expected = format!("pgweir {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["version"]).1, expected);
    assert_eq!(run(&["--version"]).1, expected);
    let (code, help, _) = run(&["serve", "--help"]);
    assert_eq!(code, 0);
    for name in [
        "PGWEIR_UPSTREAM",
        "PGWEIR_LISTEN",
        "PGWEIR_ADMIN",
        "PGWEIR_ADMIN_TOKEN",
        "PGWEIR_POOL_MODE",
        "PGWEIR_POOL_SIZE",
        "PGWEIR_WORKERS",
        "PGWEIR_AUTH",
        "PGWEIR_CONFIG",
    ] {
        assert!(help.contains(name), "{name}");
    }
}

#[test]
fn the_reference_on_file_is_the_one_in_the_binary() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let (code, out, _) = run(&["config-reference"]);
    assert_eq!(code, 0);
    assert_eq!(out, std::fs::read_to_string(file).unwrap(), "run `make docs`");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = pgweir(&["config-reference"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    assert_eq!(err, "");
}

#[test]
fn fingerprint_refuses_what_is_not_a_json_string_by_its_line() {
    let mut child =
        pgweir(&["fingerprint"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\"select 1\"\n\n{\"no\": 1}\n").unwrap();
    let (code, _, err) = told(&child.wait_with_output().unwrap());
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    assert!(err.starts_with("standard input, line 3: "), "{err}");
}

#[test]
fn fingerprint_prints_a_line_of_three_fields_for_each_statement() {
    let mut child = pgweir(&["fingerprint"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\"select 1\"\n\"SELECT  2\"\n\"select a\\tfrom b\"").unwrap();
    let (code, out, _) = told(&child.wait_with_output().unwrap());
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((code, lines.len()), (0, 3), "{out}");
    for line in &lines {
        assert_eq!(line.len(), 3, "{line:?}");
        assert!(line[..2].iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())), "{line:?}");
    }
    assert_eq!(lines[0], lines[1]);
    assert_ne!(lines[0][0], lines[2][0]);
    let texts: Vec<String> = lines.iter().map(|line| serde_json::from_str(line[2]).unwrap()).collect();
    assert_eq!(texts, ["select ?", "select ?", "select a from b"]);
}

#[test]
fn fingerprint_groups_as_the_release_that_is_asked_for() {
    let lists = b"\"select * from t where id in (1, 2)\"\n\"select * from t where id in (1, 2, 3)\"\n";
    let strict = |arguments: &[&str]| -> Vec<String> {
        let mut child = pgweir(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lists).unwrap();
        let (code, out, _) = told(&child.wait_with_output().unwrap());
        assert_eq!(code, 0);
        out.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    };
    for (arguments, same) in [
        (&["fingerprint"][..], false),
        (&["fingerprint", "--compat", "17"], false),
        (&["fingerprint", "--compat", "18"], true),
    ] {
        let ids = strict(arguments);
        assert_eq!(ids[0] == ids[1], same, "{arguments:?}");
    }
    let (code, _, err) = run(&["fingerprint", "--compat", "14"]);
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
}

/// Answers one connection with this text, on a thread; its address.
fn admin_that_says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    address
}

#[test]
fn health_is_the_exit_code() {
    for (answer, code) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 0),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 1),
        ("SSH-2.0-nonsense\r\n", 1),
        ("", 1),
    ] {
        let (actual, out, err) = run(&["health", "--admin", &admin_that_says(answer)]);
        assert_eq!(actual, code, "{answer:?} {err}");
        assert_eq!(out.lines().count() + err.lines().count(), 1, "{answer:?}");
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(run(&["health", "--admin", &free]).0, 1);
    assert_eq!(run(&["health", "--admin", "here"]).0, 1);
}
