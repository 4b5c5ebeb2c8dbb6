//! What becomes of findings between the detector and the operator.

use policy::finding::Side;

use super::*;

const EARLY: Timestamp = Timestamp(0);

/// A finding to store.
pub(crate) fn finding(id: &str, tenant: &str, last_seen: u64) -> Finding {
    let side = |text: &str, column: &str, parameter| Side {
        fingerprint: format!("{:016x}", text.len()),
        text: text.into(),
        column: Some(column.into()),
        parameter,
    };
    Finding {
        id: id.into(),
        kind: Kind::NPlusOne,
        severity: Severity::High,
        tenant: tenant.into(),
        database: "app".into(),
        user: "app".into(),
        application: "web".into(),
        client: "10.0.0.7".into(),
        route: None,
        traced: false,
        parent: Some(side("select id from events", "events.id", None)),
        child: side("select body from logs where event_id = $1", "logs.event_id", Some(1)),
        evidence: Some("events.id → logs.event_id = $1".into()),
        count: 97,
        parent_executions: 1,
        connections: 20,
        wasted_ms: 41.2,
        occurrences: 3,
        statements: 291,
        per_minute: 1,
        first_seen: Timestamp(1),
        last_seen: Timestamp(last_seen),
        rewrite: None,
        detail: None,
        source: None,
    }
}

fn all() -> Wanted {
    Wanted { limit: usize::MAX, ..Wanted::default() }
}

fn since(sequence: u64, limit: usize) -> Wanted {
    Wanted { since: Some(sequence), limit, ..Wanted::default() }
}

fn ids(listing: &Listing) -> Vec<&str> {
    listing.findings.iter().map(|kept| kept.finding.id.as_str()).collect()
}

fn of_tenant(tenant: &str) -> Mute {
    Mute { tenant: Some(tenant.into()), ..Mute::default() }
}

fn states(store: &FindingsStore, now: Timestamp) -> Vec<State> {
    store.list(&all(), now).findings.iter().map(|kept| kept.state).collect()
}

#[test]
fn the_one_unseen_for_longest_makes_room_but_not_before_one_that_was_acknowledged() {
    let store = FindingsStore::new(2);
    for (id, seen) in [("a", 5), ("b", 1), ("c", 9)] {
        store.take(&finding(id, "acme", seen), EARLY);
    }
    assert_eq!((ids(&store.list(&all(), EARLY)), store.dropped()), (vec!["c", "a"], 1));
    store.acknowledge("a", "anna".into(), None, EARLY).unwrap();
    store.take(&finding("d", "acme", 10), EARLY);
    assert_eq!(ids(&store.list(&all(), EARLY)), ["d", "a"]);
}

#[test]
fn whoever_makes_ever_new_ones_loses_his_own() {
    let store = FindingsStore::new(10);
    for n in 0..3 {
        store.take(&finding(&format!("quiet {n}"), "quiet", n), EARLY);
    }
    for n in 0..100 {
        store.take(&finding(&format!("loud {n}"), "loud", 10 + n), EARLY);
    }
    let kept = store.list(&all(), EARLY);
    let of = |tenant: &str| kept.findings.iter().filter(|kept| kept.finding.tenant == tenant).count();
    assert_eq!((of("quiet"), of("loud"), store.dropped()), (3, 7, 93));
}

#[test]
fn texts_have_a_bound_of_their_own() {
    let store = FindingsStore::new(10_000);
    for n in 0..100 {
        let mut long = finding(&n.to_string(), "acme", n);
        long.child.text = "x".repeat(MAX_BYTES / 50);
        store.take(&long, EARLY);
    }
    let kept = store.list(&all(), EARLY).findings;
    let bytes: usize = kept.iter().map(|kept| kept.finding.texts_size()).sum();
    assert!(bytes <= MAX_BYTES && kept.len() > 40, "{bytes} bytes of {} findings", kept.len());
    assert_eq!(lock(&store.inner).bytes, bytes);
    assert_eq!(lock(&store.inner).by_tenant["acme"], kept.len());
}

#[test]
fn a_follower_is_told_each_change_once_in_order_and_in_pages() {
    let store = FindingsStore::new(10);
    for id in ["a", "b", "c"] {
        store.take(&finding(id, "acme", 1), EARLY);
    }
    let page = store.list(&since(0, 2), EARLY);
    assert_eq!((ids(&page), page.total, page.sequence), (vec!["a", "b"], 3, 2));
    let page = store.list(&since(page.sequence, 2), EARLY);
    assert_eq!((ids(&page), page.sequence), (vec!["c"], 3));
    assert!(store.list(&since(3, 2), EARLY).findings.is_empty());
    let more = Finding { occurrences: 4, statements: 300, ..finding("a", "acme", 2) };
    store.take(&more, EARLY);
    store.take(&more, EARLY);
    let page = store.list(&since(3, 2), EARLY);
    assert_eq!((ids(&page), page.sequence), (vec!["a"], 4), "what is no news makes none");
    store.acknowledge("b", "anna".into(), None, EARLY).unwrap();
    assert_eq!(ids(&store.list(&since(4, 2), EARLY)), ["b"]);
}

#[test]
fn a_long_list_is_read_page_by_page_in_its_order() {
    let store = FindingsStore::new(20);
    for (at, id) in ["a", "b", "c", "d", "e", "f", "g"].into_iter().enumerate() {
        let severity = [Severity::Low, Severity::High, Severity::Medium][at % 3];
        store.take(&Finding { severity, ..finding(id, "acme", at as u64 / 2) }, EARLY);
    }
    for since in [None, Some(0), Some(3)] {
        let whole = store.list(&Wanted { since, ..all() }, EARLY);
        assert_eq!(whole.next, None);
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(&Wanted { since, after, limit: 2, ..all() }, EARLY);
            assert_eq!(page.total, whole.total);
            pages.extend(ids(&page).into_iter().map(str::to_owned));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, ids(&whole), "since {since:?}");
    }
}

#[test]
fn counters_go_on_where_the_detector_begins_anew() {
    let store = FindingsStore::new(10);
    store.take(&finding("a", "acme", 1), EARLY);
    let again = Finding { occurrences: 1, statements: 5, count: 5, ..finding("a", "acme", 2) };
    store.take(&again, EARLY);
    let kept = store.find("a").unwrap().finding;
    assert_eq!((kept.occurrences, kept.statements, kept.count), (4, 296, 97));
    assert_eq!(store.totals(), [(Kind::NPlusOne, "acme".to_owned(), Total { bursts: 4, statements: 296 })]);
}

#[test]
fn a_burst_of_a_finding_that_was_forgotten_is_another_one() {
    let store = FindingsStore::new(10);
    let once = |first_seen, last_seen| {
        let times = (Timestamp(first_seen), Timestamp(last_seen));
        Finding { occurrences: 1, statements: 5, first_seen: times.0, last_seen: times.1, ..finding("a", "acme", 0) }
    };
    store.take(&once(1, 1), EARLY);
    store.take(&once(5, 6), EARLY);
    let listing = store.list(&all(), EARLY);
    assert_eq!((listing.findings[0].finding.occurrences, listing.findings[0].finding.statements), (2, 10));
    assert_eq!(store.totals()[0].2, Total { bursts: 2, statements: 10 });
    // What goes on is no further burst.
    store.take(&once(5, 9), EARLY);
    assert_eq!(store.totals()[0].2, Total { bursts: 2, statements: 10 });
}

#[test]
fn what_is_muted_is_neither_open_nor_counted_until_the_mute_ends() {
    let store = FindingsStore::new(10);
    store.take(&finding("a", "acme", 2), EARLY);
    store.take(&finding("b", "beta", 1), EARLY);
    let sequence = store.list(&all(), EARLY).sequence;
    let mute = Mute { until_us: Some(1_000), ..of_tenant("acme") };
    let kept = store.mute(mute, EARLY).unwrap();
    assert_eq!(states(&store, EARLY), [State::Muted, State::Open]);
    assert_eq!(store.find("a").unwrap().mute, Some(kept.id));
    assert_eq!(ids(&store.list(&since(sequence, 9), EARLY)), ["a"], "a follower hears of it");
    store.take(&Finding { occurrences: 9, ..finding("a", "acme", 3) }, EARLY);
    let bursts =
        |tenant: &str| store.totals().into_iter().find(|(_, name, _)| name == tenant).map(|(_, _, total)| total.bursts);
    assert_eq!((bursts("acme"), bursts("beta")), (Some(3), Some(3)));
    let counts = |state| store.counts().into_iter().filter(|row| row.2 == state).map(|row| row.3).sum::<u64>();
    assert_eq!((counts(State::Muted), counts(State::Open)), (1, 1));
    assert_eq!(states(&store, Timestamp(1_000)), [State::Open, State::Open]);
    assert!(store.mutes(Timestamp(1_000)).is_empty());
    store.take(&Finding { occurrences: 10, ..finding("a", "acme", 4) }, Timestamp(1_000));
    assert_eq!(bursts("acme"), Some(4), "what was muted stays uncounted");
}

#[test]
fn mutes_of_the_configuration_come_and_go_with_it() {
    let store = FindingsStore::new(10);
    store.configure(&[of_tenant("beta"), of_tenant("acme")], EARLY);
    store.take(&finding("a", "acme", 1), EARLY);
    assert_eq!(store.find("a").unwrap().mute.as_deref(), Some("config:2"));
    assert_eq!(store.unmute("config:2", EARLY), Err(MuteRefusal::Configured));
    let own = store.mute(of_tenant("acme"), EARLY).unwrap();
    assert_eq!((own.id.as_str(), own.origin), ("1", "api"));
    store.configure(&[], EARLY);
    assert_eq!(store.find("a").unwrap().mute.as_deref(), Some("1"), "another mute holds too");
    assert_eq!(store.unmute("1", EARLY), Ok(()));
    assert_eq!(states(&store, EARLY), [State::Open]);
    assert_eq!(store.unmute("1", EARLY), Err(MuteRefusal::Unknown));
}

#[test]
fn the_number_of_mutes_has_an_end() {
    let store = FindingsStore::new(10);
    for _ in 0..256 {
        store.mute(of_tenant("acme"), EARLY).unwrap();
    }
    assert_eq!(store.mute(of_tenant("acme"), EARLY), Err(MuteRefusal::TooMany));
    store.unmute("7", EARLY).unwrap();
    assert_eq!(store.mute(of_tenant("acme"), EARLY).unwrap().id, "257", "an id is not given twice");
}

#[test]
fn findings_are_picked_by_all_that_is_asked_for() {
    let store = FindingsStore::new(10);
    store.take(&finding("a", "acme", 1), EARLY);
    store.take(&Finding { application: "worker".into(), kind: Kind::InsertLoop, ..finding("b", "beta", 1) }, EARLY);
    let pick = |wanted: Wanted| store.list(&Wanted { limit: 9, ..wanted }, EARLY).total;
    let child = finding("a", "acme", 1).child.fingerprint;
    assert_eq!(pick(Wanted { tenant: Some("acme".into()), ..Wanted::default() }), 1);
    assert_eq!(pick(Wanted { kind: Some("insert_loop".into()), ..Wanted::default() }), 1);
    assert_eq!(pick(Wanted { application: Some("worker".into()), ..Wanted::default() }), 1);
    assert_eq!(pick(Wanted { fingerprint: Some(child), ..Wanted::default() }), 2);
    assert_eq!(pick(Wanted { fingerprint: Some("0".repeat(16)), ..Wanted::default() }), 0);
    assert_eq!(pick(Wanted { state: Some(State::Open), ..Wanted::default() }), 2);
    assert_eq!(pick(Wanted { state: Some(State::Muted), ..Wanted::default() }), 0);
}

#[test]
fn tenants_beyond_the_bound_are_counted_together() {
    let store = FindingsStore::new(1);
    for number in 0..MAX_TOTALS + 5 {
        store.take(&Finding { occurrences: 1, ..finding("a", &format!("t{number}"), 1) }, EARLY);
        store.take(&Finding { occurrences: 1, ..finding("b", "t0", 1) }, EARLY);
    }
    let totals = store.totals();
    assert_eq!(totals.len(), MAX_TOTALS + 1);
    assert_eq!(totals.iter().find(|row| row.1 == OTHERS).unwrap().2.bursts, 5);
}

#[test]
fn what_detection_left_out_is_told_of() {
    let store = FindingsStore::new(10);
    store.leave_out(3);
    store.leave_out(0);
    store.leave_out(4);
    assert_eq!((store.left_out(), store.list(&all(), EARLY).left_out), (7, 7));
}

/// A folder for one test, gone with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgweir-findings-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        Self(path)
    }

    fn store(&self, now: Timestamp) -> FindingsStore {
        let store = FindingsStore::new(10);
        store.keep_in(&self.0, now);
        store
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn what_is_said_is_there_again_after_a_restart() {
    let folder = Folder::new("again");
    let store = folder.store(EARLY);
    for id in ["a", "b", "c"] {
        store.take(&finding(id, "acme", 1), EARLY);
    }
    store.acknowledge("a", "anna".into(), Some("soon".into()), Timestamp(7)).unwrap();
    store.acknowledge("b", "anna".into(), None, Timestamp(8)).unwrap();
    store.withdraw("b", Timestamp(9)).unwrap();
    let ends = |until| Mute { until_us: Some(until), note: Some("known".into()), ..of_tenant("beta") };
    store.mute(ends(50), Timestamp(10)).unwrap();
    let kept = store.mute(Mute { fingerprint: Some(0xbb), ..ends(500) }, Timestamp(10)).unwrap();
    store.mute(of_tenant("gone"), Timestamp(10)).unwrap();
    store.unmute("3", Timestamp(10)).unwrap();

    let store = folder.store(Timestamp(100));
    assert_eq!(store.mutes(Timestamp(100)), [kept], "one has ended, one was taken away");
    for id in ["a", "b", "c"] {
        store.take(&finding(id, "acme", 1), Timestamp(100));
    }
    let known = store.find("a").unwrap();
    assert_eq!((known.state, known.acknowledged.unwrap().note.as_deref()), (State::Acknowledged, Some("soon")));
    assert_eq!(store.list(&all(), Timestamp(100)).findings.iter().filter(|kept| kept.state == State::Open).count(), 2);
    assert_eq!(store.mute(of_tenant("acme"), Timestamp(100)).unwrap().id, "4", "an id is not given twice");
}

/// An acknowledgement ends when what it was about comes back after a long quiet, and a restart does not revive it.
#[test]
fn what_has_come_back_stays_open_over_a_restart() {
    let folder = Folder::new("back");
    let store = folder.store(EARLY);
    let open = |seen: u64, occurrences| Finding {
        detail: Some(policy::finding::Detail::Transaction {
            open_ms: 9.0,
            idle_ms: 0.0,
            threshold_ms: 1.0,
            ended: true,
        }),
        occurrences,
        ..finding("a", "acme", seen)
    };
    store.take(&open(1, 1), EARLY);
    store.acknowledge("a", "anna".into(), None, Timestamp(7)).unwrap();
    store.take(&open(100 * 3_600_000_000, 2), Timestamp(8));
    assert_eq!(store.find("a").unwrap().state, State::Open);
    let store = folder.store(Timestamp(100));
    store.take(&open(101 * 3_600_000_000, 1), Timestamp(100));
    assert_eq!(store.find("a").unwrap().state, State::Open);
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside() {
    for (name, text) in [
        ("torn", "{\"format\": \"pgweir-findings\", \"vers"),
        (
            "newer",
            "{\"format\": \"pgweir-findings\", \"version\": 2, \"last_mute\": 0, \"mutes\": [], \"acknowledged\": {}}",
        ),
        (
            "wide",
            "{\"format\": \"pgweir-findings\", \"version\": 1, \"last_mute\": 1, \"acknowledged\": {}, \"mutes\": [{\"id\": 1, \"created\": \"2026-01-01T00:00:00Z\"}]}",
        ),
        ("empty", ""),
    ] {
        let folder = Folder::new(name);
        std::fs::create_dir_all(&folder.0).unwrap();
        std::fs::write(folder.0.join("findings.json"), text).unwrap();
        let store = folder.store(EARLY);
        assert_eq!(store.mutes(EARLY), [], "{name}");
        assert_eq!(std::fs::read_to_string(folder.0.join("findings.json.broken")).unwrap(), text);
        let kept = store.mute(of_tenant("acme"), EARLY).unwrap();
        assert_eq!(folder.store(EARLY).mutes(EARLY), [kept], "{name}");
    }
}

#[test]
fn what_cannot_be_written_holds_all_the_same() {
    let folder = Folder::new("gone");
    std::fs::create_dir_all(&folder.0).unwrap();
    let store = folder.store(EARLY);
    // As on a full or broken disk: nothing can be made in it any more.
    std::fs::remove_dir_all(&folder.0).unwrap();
    std::fs::write(&folder.0, "no folder").unwrap();
    let kept = store.mute(of_tenant("acme"), EARLY).unwrap();
    assert_eq!(store.mutes(EARLY), [kept]);
    std::fs::remove_file(&folder.0).unwrap();
}

#[test]
fn acknowledgements_that_are_kept_have_an_end() {
    let store = FindingsStore::new(1);
    for number in 0..saved::MAX_ACKNOWLEDGED as u64 + 3 {
        let id = number.to_string();
        store.take(&finding(&id, "acme", number), EARLY);
        store.acknowledge(&id, "anna".into(), None, Timestamp(number)).unwrap();
    }
    let inner = lock(&store.inner);
    assert_eq!(inner.acknowledged.len(), saved::MAX_ACKNOWLEDGED);
    assert!(!inner.acknowledged.contains_key("0") && inner.acknowledged.contains_key("3"), "the oldest went");
}
