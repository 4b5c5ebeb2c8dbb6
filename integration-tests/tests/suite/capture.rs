//! The stream of events in a file: asked for by `pgweir capture`, read by `pgweir analyze`.

use std::path::Path;
use std::process::{Output, Stdio};

use config::PoolMode::Transaction;
use integration_tests::process::pgweir;
use integration_tests::{Scratch, Site, eventually, frontend, http};
use serde_json::Value;

/// A proxy that hands hardly anything to its analyst, and may write into this folder.
fn site(folder: &Scratch) -> Site {
    let directory = Some(folder.path().to_owned());
    let site = Site::behind(Transaction, |proxy| {
        proxy.with(|settings| {
            settings.observe.events_per_second = 100;
            settings.capture.directory = directory;
        })
    });
    site.run_directly("create table posts (id int primary key, author text)").ok();
    site.run_directly("create table notes (id int primary key, post_id int, line text)").ok();
    site.run_directly("insert into posts select 10000 + 7 * n, 'hush-' || n from generate_series(1, 12) n").ok();
    site.run_directly("insert into notes select row_number() over (), id, 'hush' from posts").ok();
    site
}

/// Runs the command line against the site's admin port to its end.
fn run(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = site.admin().to_string();
    let Output { status, stdout, stderr } =
        pgweir(&[&["capture", "--admin", &admin], arguments].concat()).stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn state(site: &Site) -> Value {
    http::fetch(site.admin(), "/api/v1/capture").json()["capture"].clone()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Captures what `work` does; gives the file's lines.
fn capture(site: &Site, folder: &Scratch, name: &str, arguments: &[&str], work: impl FnOnce()) -> Vec<Value> {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| run(site, &[&["--out", name], arguments].concat()));
        eventually("the capture runs", || state(site)["state"] == "running" || asked.is_finished());
        work();
        let (code, said) = run(site, &["--stop"]);
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = asked.join().unwrap();
        assert!(code == Some(0) && said.contains(name) && said.contains("ended: stopped"), "{said}");
    });
    lines(&folder.path().join(name))
}

/// A list, then each of its rows by its key, in a transaction; the key bound as text or in binary format.
fn walk(site: &Site) {
    let mut client = site.client();
    client.query("begin").ok();
    let ids = client.query("select id from posts order by id").ok().rows();
    for id in ids {
        client.parse("", "select line from notes where post_id = $1").bind("", &[&id[0]]);
        client.execute().sync().reply().ok();
    }
    client.query("commit").ok();
    client.terminate();
}

#[test]
fn a_capture_holds_every_statement_and_shows_the_walk_without_the_values() {
    let folder = Scratch::new();
    let site = site(&folder);
    let mut busy = site.client();
    for values in ["hash", "drop"] {
        let name = format!("{values}.jsonl");
        let lines = capture(&site, &folder, &name, &["--values", values], || {
            for _ in 0..300 {
                busy.query("select 'hush' from posts").ok();
            }
            walk(&site);
            eventually("the client's coming and going is told", || state(&site)["sessions"] == 2);
        });
        let (first, last) = (&lines[0], &lines[lines.len() - 1]);
        assert_eq!((&first["values"], &last["end"]), (&values.into(), &"stopped".into()), "{first} {last}");
        assert_eq!((&last["complete"], &last["dropped"]), (&true.into(), &0.into()), "{last}");
        // The budget is 200 for two seconds: all the others are here because a capture runs.
        let of = |sql: &str| lines.iter().filter(|line| line["t0"].is_u64() && line["sql"] == sql).collect::<Vec<_>>();
        assert_eq!(of("select ? from posts").len(), 300);
        let children = of("select line from notes where post_id = $1");
        assert!(children.len() == 12 && children.iter().all(|event| event["tx"] == true && event["nrows"] == 1));
        assert_eq!((of("begin").len(), of("commit").len()), (1, 1));
        let borders = |what: &str| lines.iter().filter(|line| line["session"] == what).count();
        assert_eq!((borders("begin"), borders("end")), (1, 1), "of the client that came and went");
        let text = std::fs::read_to_string(folder.path().join(&name)).unwrap();
        // A value is a string in the file; moments and hashes are numbers, which may hold any digits.
        assert!(!text.contains("hush") && !text.contains("\"10007\""), "no value is in the file");
        let file = folder.path().join(&name);
        let read = pgweir(&["analyze", file.to_str().unwrap(), "--profile", "production"]).output();
        let Output { status, stdout, .. } = read.unwrap();
        let report: Value = serde_json::from_slice(&stdout).unwrap();
        assert!(status.success() && report["events"].as_u64().unwrap() >= 315, "{report}");
        let findings = report["findings"].as_array().unwrap();
        let kinds: Vec<&str> = findings.iter().filter_map(|finding| finding["kind"].as_str()).collect();
        assert_eq!(kinds, if values == "hash" { vec!["n_plus_one"] } else { vec![] }, "{report}");
    }
}

#[test]
fn a_capture_tells_what_ran_within_a_transaction_in_pieces_and_with_constants() {
    let folder = Scratch::new();
    let site = site(&folder);
    let lines = capture(&site, &folder, "within.jsonl", &["--values", "hash"], || {
        let mut client = site.client();
        let select = "select id from posts where id > 5 and author <> 'hush'";
        client.query("begin").ok();
        client.query(select).ok();
        client.query("commit").ok();
        // The same in one request, the rows in two pieces.
        client.parse("", "begin").bind("", &[]).execute().parse("", select).bind("", &[]);
        client.say(frontend::execute("", 5)).say(frontend::execute("", 0));
        client.parse("", "commit").bind("", &[]).execute().sync().reply().ok();
        client.query(select).ok();
        client.terminate();
        eventually("the client's coming and going is told", || state(&site)["sessions"] == 2);
    });
    let events: Vec<&Value> = lines.iter().filter(|line| line["t0"].is_u64()).collect();
    let is = |flag: &str| events.iter().map(|event| event[flag] == true).collect::<Vec<_>>();
    assert_eq!(is("tx"), [false, true, true, false, true, true, true, false], "{events:#?}");
    assert_eq!(is("suspended"), [false, false, false, false, true, false, false, false]);
    assert_eq!(is("resumed"), [false, false, false, false, false, true, false, false]);
    for select in [1, 4, 7] {
        let literals = events[select]["literals"].as_array().map_or(0, Vec::len);
        assert_eq!((literals, &events[select]["literals"]), (2, &events[1]["literals"]), "{}", events[select]);
    }
}

#[test]
fn what_may_not_be_captured_is_refused_with_a_reason() {
    let folder = Scratch::new();
    let site = site(&folder);
    for (arguments, words) in [
        (&["--values", "keep"][..], "capture.allow_values"),
        (&["--values", "all"], "must be one of hash, drop, keep"),
        (&["--out", "../elsewhere"], "../elsewhere"),
        (&["--out", ".hidden"], "`file`"),
        (&["--seconds", "0"], "`seconds`"),
        (&["--max-size", "1"], "`max_bytes`"),
        (&["--stop"], "no capture is running"),
    ] {
        let (code, said) = run(&site, arguments);
        assert!(code == Some(1) && said.contains(words), "{arguments:?}: {said}");
    }
    assert_eq!(state(&site), Value::Null);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let off = Site::pooled(Transaction, 2);
    let (code, said) = run(&off, &[]);
    assert!(code == Some(1) && said.contains("capture.directory"), "{said}");
}

#[test]
fn a_capture_ends_at_its_time_and_at_its_size() {
    let folder = Scratch::new();
    let site = site(&folder);
    let (code, said) = run(&site, &["--out", "second.jsonl", "--seconds", "1"]);
    assert!(code == Some(0) && said.contains("ended: seconds"), "{said}");
    let mut client = site.client();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| run(&site, &["--out", "small.jsonl", "--max-size", "8kB"]));
        eventually("it is full", || {
            client.query("select id from posts").ok();
            asked.is_finished()
        });
        let (code, said) = asked.join().unwrap();
        assert!(code == Some(0) && said.contains("ended: bytes"), "{said}");
    });
    assert!(std::fs::metadata(folder.path().join("small.jsonl")).unwrap().len() <= 8 << 10);
}
