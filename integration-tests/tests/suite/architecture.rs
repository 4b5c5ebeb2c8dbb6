//! What is deliberately absent, kept absent: docs/architecture.md made checkable by reading the sources.
//!
//! Each rule names its exceptions with the reason beside them. An exception that is no longer needed fails too, so
//! that the lists stay honest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that are shipped.
const SHIPPED: [&str; 4] = ["wire", "policy", "config", "proxy"];
/// Those without I/O.
const PURE: [&str; 3] = ["wire", "policy", "config"];

/// A source file: where it is from the root of the workspace, and what of it is not for tests.
struct Source {
    path: String,
    /// Line number and text, comments and test modules left out.
    lines: Vec<(usize, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_under(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file of these crates that is compiled into what is shipped.
fn sources(crates: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    for name in crates {
        files_under(&root().join(name).join("src"), &mut files);
    }
    files.sort();
    let sources: Vec<Source> = files.iter().filter_map(|file| shipped_part(file)).collect();
    assert!(!sources.is_empty());
    sources
}

fn shipped_part(file: &Path) -> Option<Source> {
    let path = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let stem = file.file_stem()?.to_str()?;
    if stem.ends_with("tests") || stem == "testing" || path.split('/').any(|part| part == "tests") {
        return None;
    }
    let text = fs::read_to_string(file).unwrap();
    // Tests stand at the end of a file; a module of its own for them is left out by its name.
    let mut lines = Vec::new();
    let mut numbered = text.lines().enumerate().peekable();
    while let Some((index, line)) = numbered.next() {
        if line == "#[cfg(test)]" && numbered.peek().is_some_and(|(_, next)| next.trim_end().ends_with('{')) {
            break;
        }
        let code = line.split("// ").next().unwrap_or_default();
        if !code.trim_start().starts_with("//") {
            lines.push((index + 1, code.to_owned()));
        }
    }
    Some(Source { path, lines })
}

/// Fails with every line that `breaks` the rule in a file without an exception, and with every exception that no
/// longer has such a line.
fn is_absent(what: &str, crates: &[&str], exceptions: &[(&str, &str)], breaks: impl Fn(&str) -> bool) {
    let (mut broken, mut used) = (Vec::new(), BTreeSet::new());
    for source in sources(crates) {
        let excepted = exceptions.iter().find(|(path, _)| source.path.starts_with(path));
        for (number, line) in source.lines.iter().filter(|(_, line)| breaks(line)) {
            match excepted {
                Some((path, _)) => drop(used.insert(*path)),
                None => broken.push(format!("{}:{number}: {}", source.path, line.trim())),
            }
        }
    }
    assert!(broken.is_empty(), "{what}:\n{}", broken.join("\n"));
    let stale: Vec<_> = exceptions.iter().filter(|(path, _)| !used.contains(path)).collect();
    assert!(stale.is_empty(), "{what}: these exceptions are no longer needed: {stale:?}");
}

/// `b'x'` for a letter or digit that is the type of some message.
fn is_message_type(line: &str) -> bool {
    line.match_indices("b'").any(|(at, _)| {
        let rest = &line.as_bytes()[at + 2..];
        matches!(rest, [letter, b'\'', ..] if b"QPBDECSHFXdcfpRKZTtnN1234sGWVvIA".contains(letter))
    })
}

#[test]
fn message_types_are_written_in_one_place() {
    let exceptions = [
        ("wire/src/tag.rs", "the place"),
        ("wire/src/error", "letters of an error's fields, not of messages"),
        ("wire/src/login/", "letters of SCRAM's attributes and hexadecimal digits"),
        ("wire/src/startup/options.rs", "the -c of startup options"),
        ("wire/src/pgoutput.rs", "letters of the plugin's own messages, which stand inside of CopyData"),
        ("proxy/src/cache/facts", "how the server writes a boolean, and what it is asked to call a type"),
    ];
    is_absent("a message type outside wire::tag", &["wire", "proxy"], &exceptions, is_message_type);
}

#[test]
fn lengths_are_read_in_one_place() {
    let exceptions = [
        ("wire/src/frame.rs", "the place"),
        ("wire/src/view", "fields inside a body that the framer has cut out, by bounded reads"),
        ("wire/src/login/", "fields inside a body that the framer has cut out, by bounded reads"),
        ("wire/src/startup.rs", "the process id of a cancel request that the framer has cut out"),
        ("proxy/src/session/sampled.rs", "values of parameters, for operators to read: no lengths"),
        ("wire/src/pgoutput.rs", "fields inside a CopyData that the framer has cut out, by bounded reads"),
    ];
    let reads = |line: &str| line.contains("from_be_bytes") || line.contains("read_u32") || line.contains("get_u32");
    is_absent("a length read outside wire::frame", &["wire", "proxy"], &exceptions, reads);
}

#[test]
fn nothing_is_kept_in_a_static() {
    let changes = ["Mutex", "RwLock", "OnceLock", "OnceCell", "LazyLock", "Atomic", "RefCell", "Cell<"];
    let is_static = |line: &str| {
        let item = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.contains("thread_local!")
            || line.contains("lazy_static!")
            || item.starts_with("static mut ")
            || (item.starts_with("static ") && changes.iter().any(|kind| item.contains(kind)))
    };
    is_absent("a static that changes", &SHIPPED, &[], is_static);
}

#[test]
fn pure_crates_do_no_io() {
    let doors = [
        "tokio",
        "tracing",
        "std::fs",
        "std::env",
        "std::process",
        "std::thread",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "Instant::now",
        "SystemTime::now",
        "async fn",
        "async move",
        ".await;",
        ".await?",
        ".await)",
        "println!",
        "eprintln!",
    ];
    is_absent("I/O in a pure crate", &PURE, &[], |line| doors.iter().any(|door| line.contains(door)));
}

/// A clock that is set while clients are served, forward or back, ends nobody's statement and lets nobody run for longer.
#[test]
fn the_clock_on_the_wall_decides_nothing() {
    let places = ["session/", "worker/", "pool/", "upstream/", "shares.rs", "tenancy.rs", "control/"];
    let decides = |source: &Source| places.iter().any(|place| source.path.starts_with(&format!("proxy/src/{place}")));
    let deciding: Vec<Source> = sources(&["proxy"]).into_iter().filter(decides).collect();
    assert!(deciding.len() > 50, "{} files", deciding.len());
    let says = |(_, line): &&(usize, String)| line.contains("SystemTime") || line.contains("UNIX_EPOCH");
    let told =
        deciding.iter().flat_map(|source| source.lines.iter().filter(says).map(|(at, line)| (&source.path, at, line)));
    assert_eq!(told.collect::<Vec<_>>(), [], "time is measured by Instant, which nobody sets");
}

#[test]
fn nothing_that_is_shipped_can_panic_on_purpose() {
    let panics = [".unwrap()", "panic!(", "unreachable!(", "todo!(", "unimplemented!(", "assert!(", "assert_eq!("];
    let breaks = |line: &str| {
        let debug = line.contains("debug_assert");
        let expects = line.contains(".expect(\"") || line.contains(".expect(&");
        !debug && (expects || panics.iter().any(|panic| line.contains(panic)))
    };
    is_absent("a deliberate panic", &SHIPPED, &[], breaks);
}

#[test]
fn pure_crates_forbid_unsafe_code() {
    for name in PURE {
        let text = fs::read_to_string(root().join(name).join("src/lib.rs")).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
    }
}

#[test]
fn every_exception_to_a_lint_says_why() {
    let exempts = |line: &str| {
        let line = line.trim();
        ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|start| line.starts_with(start))
            && line.ends_with(")]")
            && !line.contains("reason = ")
    };
    is_absent("a lint that is switched off without a reason", &SHIPPED, &[], exempts);
}

/// The names under `[dependencies]` of a crate, those of the workspace only.
fn dependencies(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    let (_, section) = text.split_once("\n[dependencies]").unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| Some(line.split(['=', '.', ' ']).next()?.trim().to_owned())).collect()
}

#[test]
fn crates_depend_downwards_only() {
    let members = ["wire", "policy", "config", "pgweir", "integration-tests"];
    let allowed: [(&str, &[&str]); 4] =
        [("wire", &[]), ("policy", &["config"]), ("config", &[]), ("proxy", &["wire", "policy", "config"])];
    for (name, allowed) in allowed {
        let found = dependencies(name);
        let ours: Vec<_> = found.iter().filter(|found| members.contains(&found.as_str())).collect();
        assert!(ours.iter().all(|ours| allowed.contains(&ours.as_str())), "{name} depends on {ours:?}");
        if PURE.contains(&name) {
            let doors = ["tokio", "mio", "socket2", "tracing", "libc", "pgwire"];
            assert!(doors.iter().all(|door| !found.contains(*door)), "{name} depends on {found:?}");
        }
    }
}

/// Every file of every member, tests among them.
fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in SHIPPED.iter().chain(&["integration-tests"]) {
        for folder in ["src", "tests", "benches", "examples"] {
            let folder = root().join(name).join(folder);
            if folder.is_dir() {
                files_under(&folder, &mut files);
            }
        }
    }
    files
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let lines = |file: &PathBuf| fs::read_to_string(file).unwrap().lines().count();
    let long: Vec<_> = all_files().into_iter().filter(|file| lines(file) > 500).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |file: &PathBuf| shipped_part(file).is_some() && !fs::read_to_string(file).unwrap().starts_with("//!");
    let silent: Vec<_> = all_files().into_iter().filter(silent).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together, so that this file does not find itself.
    let marks = ["TO", "FIX", "XX"].into_iter().zip(["DO", "ME", "X"]).map(|(a, b)| format!("{a}{b}"));
    let marks: Vec<String> = marks.collect();
    let holds = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        marks.iter().any(|mark| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark))
    };
    let unfinished: Vec<_> = all_files().into_iter().filter(holds).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
}
