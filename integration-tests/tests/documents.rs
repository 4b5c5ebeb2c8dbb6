//! What the documents say is there, is there.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "documents/monitoring.rs"]
mod monitoring;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{LimitKey, PoolMode, SessionAttrs};
use policy::verdict::{
    ConnectFailure, Limit, Limited, ListenRefusal, LoginRefusal, QueueRefusal, Refusal, SecurityLack, SessionState,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README.md and every page of docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// The targets of Markdown links: what stands in `](…)`.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut checked = 0;
    for (path, page) in pages() {
        for target in links(&page).filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{} links to {target}, which is not there", path.display());
            checked += 1;
            if anchor.is_empty() {
                // It may be a picture.
                continue;
            }
            let headings: BTreeSet<String> = read(&file).lines().filter_map(anchor_of).collect();
            assert!(headings.contains(anchor), "{}: no heading for {target}", path.display());
        }
    }
    assert!(checked > 10, "only {checked} links found");
}

/// The anchor that a heading gets: lower case, blanks as hyphens, without punctuation.
fn anchor_of(line: &str) -> Option<String> {
    let text = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = text.to_lowercase().replace(' ', "-");
    Some(kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect())
}

#[test]
fn every_make_target_in_the_documents_exists() {
    let makefile = read(&root().join("Makefile"));
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name)).collect();
    let mut seen = BTreeSet::new();
    for (path, page) in pages() {
        for rest in page.split(['`', '\n']).map(str::trim_start).filter_map(|piece| piece.strip_prefix("make ")) {
            let target = rest.split([' ', ',', ';']).next().unwrap_or_default();
            assert!(targets.contains(target), "{} names `make {target}`", path.display());
            seen.insert(target.to_owned());
        }
    }
    assert!(seen.contains("demo") && seen.contains("test"), "{seen:?}");
}

fn queue_refusal() -> Refusal {
    let (database, user, retry_in) = ("x".into(), "x".into(), Duration::from_secs(1));
    Refusal::Queue(QueueRefusal { database, user, waiting: 1, limit: 1, retry_in })
}

fn rule_refusal(rejected: bool) -> Refusal {
    let (host, user, database) = ("x".into(), "x".into(), "x".into());
    Refusal::Login(LoginRefusal::Rule { host, user, database, encrypted: false, rejected })
}

fn limited(key: LimitKey) -> Limited {
    Limited { tenant: "x".into(), class: "".into(), key, rule: "[tenant.default]".into() }
}

/// One of each kind. The match makes a new kind fail to compile here until it is in the list, and so in the document.
fn refusals() -> Vec<Refusal> {
    let (name, time): (Box<str>, Duration) = ("x".into(), Duration::from_secs(1));
    let all = vec![
        Refusal::TransactionBlock { database: name.clone() },
        Refusal::StatementTimeout { limited: limited(LimitKey::StatementTimeout), limit: time },
        Refusal::StatementTimeout { limited: limited(LimitKey::RequestTimeout), limit: time },
        Refusal::StatementTimeout { limited: limited(LimitKey::TransactionTimeout), limit: time },
        Refusal::TooMany { limited: limited(LimitKey::MaxClients), limit: 1, retry_in: None },
        Refusal::TooMany { limited: limited(LimitKey::MaxWaiting), limit: 1, retry_in: None },
        Refusal::TooMany { limited: limited(LimitKey::MaxStatements), limit: 1, retry_in: None },
        Refusal::TooMany { limited: limited(LimitKey::StatementRate), limit: 1, retry_in: None },
        Refusal::TooMany { limited: limited(LimitKey::MaxRows), limit: 1, retry_in: None },
        Refusal::TooMany { limited: limited(LimitKey::MaxBytes), limit: 1, retry_in: None },
        Refusal::NotAllowed { limited: limited(LimitKey::ReadOnly), what: "".into() },
        Refusal::NotAllowed { limited: limited(LimitKey::Blocked), what: "".into() },
        Refusal::NotAllowed { limited: limited(LimitKey::Tables), what: name.clone() },
        Refusal::NotAllowed { limited: limited(LimitKey::Tables), what: "".into() },
        Refusal::Silent { limited: limited(LimitKey::IdleTimeout), limit: time },
        Refusal::Silent { limited: limited(LimitKey::TransactionTimeout), limit: time },
        Refusal::Silent { limited: limited(LimitKey::IdleInTransactionTimeout), limit: time },
        Refusal::CancelledInQueue,
        Refusal::QueueTimeout {
            database: name.clone(),
            user: name.clone(),
            waited: time,
            limit: Limit::Pool(1),
            waiting: 1,
            limited: None,
        },
        queue_refusal(),
        Refusal::TooManyClients { database: name.clone(), user: name.clone(), limit: Limit::Proxy(1) },
        Refusal::TooManyClients { database: name.clone(), user: name.clone(), limit: Limit::Database(1) },
        Refusal::TooManyClients { database: name.clone(), user: name.clone(), limit: Limit::User(1) },
        Refusal::TooManyPools { limit: 1 },
        Refusal::ShortOfMemory { limit: 1 },
        Refusal::DatabaseDisabled { database: name.clone() },
        Refusal::DatabaseRemoved { database: name.clone() },
        Refusal::Killed,
        Refusal::Terminated,
        Refusal::IdleInTransaction { limit: time },
        Refusal::ShuttingDown,
        Refusal::Unavailable { database: name.clone(), retry_in: time },
        Refusal::NoneFits { database: name.clone(), wanted: SessionAttrs::Primary },
        Refusal::CannotConnect { database: name.clone(), failure: ConnectFailure::Refused },
        Refusal::UpstreamLost { database: name.clone(), in_transaction: true },
        Refusal::PasswordFailed { user: name.clone() },
        Refusal::PlaintextRefused { user: name.clone() },
        Refusal::NotSecured { user: name.clone(), lack: SecurityLack::Tls },
        Refusal::NotSecured { user: name.clone(), lack: SecurityLack::Certificate },
        Refusal::NotSecured { user: name.clone(), lack: SecurityLack::OwnCertificate },
        Refusal::NoUser,
        Refusal::Login(LoginRefusal::Certificate { user: name.clone() }),
        Refusal::Login(LoginRefusal::Peer { user: name.clone() }),
        Refusal::Login(LoginRefusal::LookUp { user: name.clone() }),
        Refusal::Login(LoginRefusal::Failures { retry_in: time }),
        Refusal::Login(LoginRefusal::Logins { limit: 1, address: false }),
        Refusal::Login(LoginRefusal::NoTrial { limit: 1 }),
        Refusal::Login(LoginRefusal::Console { user: name.clone() }),
        Refusal::Login(LoginRefusal::ConsoleFull { limit: 1 }),
        Refusal::Login(LoginRefusal::Logins { limit: 1, address: true }),
        rule_refusal(true),
        rule_refusal(false),
        Refusal::LoginTimeout { limit: time },
        Refusal::UnknownDatabase { database: name.clone() },
        Refusal::RefusedSetting { name: name.clone(), tenant: name.clone(), limit: time },
        Refusal::TooManyStatements { limit: 1, bytes: false },
        Refusal::NotInThisMode { state: SessionState::Listen, mode: PoolMode::Transaction },
        Refusal::Listen(ListenRefusal::TooManyChannels { limit: 1 }),
        Refusal::Listen(ListenRefusal::NotReady { database: name.clone(), waited: time }),
        Refusal::Listen(ListenRefusal::TooSlow { limit: 1 }),
        Refusal::Listen(ListenRefusal::Lost { database: name.clone() }),
        Refusal::ProtocolViolation { what: name },
    ];
    for refusal in &all {
        match refusal {
            Refusal::TransactionBlock { .. }
            | Refusal::StatementTimeout { .. }
            | Refusal::TooMany { .. }
            | Refusal::NotAllowed { .. }
            | Refusal::Silent { .. }
            | Refusal::CancelledInQueue
            | Refusal::QueueTimeout { .. }
            | Refusal::Queue(_)
            | Refusal::TooManyClients { .. }
            | Refusal::TooManyPools { .. }
            | Refusal::ShortOfMemory { .. }
            | Refusal::DatabaseDisabled { .. }
            | Refusal::DatabaseRemoved { .. }
            | Refusal::Killed
            | Refusal::Terminated
            | Refusal::IdleInTransaction { .. }
            | Refusal::ShuttingDown
            | Refusal::Unavailable { .. }
            | Refusal::CannotConnect { .. }
            | Refusal::NoneFits { .. }
            | Refusal::UpstreamLost { .. }
            | Refusal::PasswordFailed { .. }
            | Refusal::PlaintextRefused { .. }
            | Refusal::NotSecured { .. }
            | Refusal::NoUser
            | Refusal::Login(
                LoginRefusal::Rule { .. }
                | LoginRefusal::Certificate { .. }
                | LoginRefusal::Peer { .. }
                | LoginRefusal::LookUp { .. }
                | LoginRefusal::Failures { .. }
                | LoginRefusal::Logins { .. }
                | LoginRefusal::NoTrial { .. }
                | LoginRefusal::Console { .. }
                | LoginRefusal::ConsoleFull { .. },
            )
            | Refusal::LoginTimeout { .. }
            | Refusal::UnknownDatabase { .. }
            | Refusal::RefusedSetting { .. }
            | Refusal::TooManyStatements { .. }
            | Refusal::NotInThisMode { .. }
            | Refusal::Listen(
                ListenRefusal::TooManyChannels { .. }
                | ListenRefusal::NotReady { .. }
                | ListenRefusal::TooSlow { .. }
                | ListenRefusal::Lost { .. },
            )
            | Refusal::ProtocolViolation { .. } => {}
        }
    }
    all
}

#[test]
fn every_error_of_our_own_is_in_the_troubleshooting_table_with_its_code_and_words() {
    let page = read(&root().join("docs/troubleshooting.md"));
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).skip(1).collect())
        .collect();
    for refusal in refusals() {
        let report = refusal.report();
        // Names in a message and the kinds of session state are an ellipsis in the table.
        let message =
            report.message.replace("\"x\"", "\"…\"").replace("LISTEN", "…").replace("transaction pooling", "… pooling");
        let code = format!("`{}`", report.code);
        let row = rows.iter().find(|row| row.first() == Some(&code.as_str()) && row.get(1) == Some(&message.as_str()));
        let row = row.unwrap_or_else(|| panic!("docs/troubleshooting.md lacks {code} {message}"));
        let fatal = row.get(2).is_some_and(|cell| *cell != "no");
        assert_eq!(fatal, refusal.is_fatal(), "{code} {message}: fatal or not");
    }
}

/// The names of all test functions under a folder, each with its file's stem.
fn tests_under(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                tests_under(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            for rest in text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1)) {
                let name = rest.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or_default();
                names.insert(name.to_owned());
                names.insert(format!("{stem}::{name}"));
            }
        }
    }
}

#[test]
fn every_test_that_the_list_of_traps_names_exists() {
    let mut tests = BTreeSet::new();
    for member in ["wire", "policy", "config", "proxy", "integration-tests"] {
        tests_under(&root().join(member), &mut tests);
    }
    let page = read(&root().join("docs/traps.md"));
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains(" | `")) {
        let (_, kept_by) = row.rsplit_once(" | ").unwrap();
        for name in kept_by.split('`').skip(1).step_by(2) {
            assert!(tests.contains(name), "docs/traps.md names the test {name}, which does not exist");
            named += 1;
        }
    }
    assert!(named > 80, "only {named} tests are named");
}
