//! Captures without a proxy: the desk, the sink and the file.

use std::sync::Arc;

use policy::observe::{Event, ScopeId, ShapeFacts, ShapeId, TenantId, Value};

use super::sink::Sink;
use super::*;
use crate::telemetry::{EventFlags, EventHeader, Scope};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgweir-capture-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn request(&self, file: &str, max_bytes: u64) -> Request {
        Request { directory: self.0.clone(), file: file.into(), values: Values::Keep, seconds: 10, max_bytes }
    }

    fn lines(&self, file: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.0.join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn scope() -> Scope {
    let [database, user, application, client, tenant] = ["app", "u", "web", "10.0.0.7", "acme"].map(Into::into);
    Scope { database, user, application, client, tenant }
}

/// Begins what was asked for, as the analyst would while the request waits.
fn begin(captures: &Arc<Captures>, request: Request) -> Sink {
    let asking = Arc::clone(captures);
    let asked = std::thread::spawn(move || asking.start(request));
    let order = loop {
        match captures.take_order() {
            Some(order) => break order,
            None => std::thread::yield_now(),
        }
    };
    let capture = Numbered::new(Arc::clone(captures), &order);
    let sink = Sink::begin(capture, order, 15, 1_000_000).unwrap();
    assert_eq!(asked.join().unwrap().unwrap().phase, Phase::Running);
    sink
}

fn event(sink: &mut Sink, end_us: u64) {
    let header =
        EventHeader { connection: 7, statement: 1, flags: EventFlags::IN_TRANSACTION, ..EventHeader::default() };
    let seen = Event {
        start_us: end_us - 10,
        end_us,
        queued_us: 0,
        connection: 7,
        scope: ScopeId(1),
        tenant: TenantId(1),
        trace: None,
        route: None,
        shape: ShapeId(1),
        facts: ShapeFacts::UNKNOWN,
        parameters: &[Value::Text { type_oid: 0, bytes: b"anna" }],
        literals: &[],
        columns: None,
        row_count: 3,
        rows: &[],
        last_row: &[],
        resumed: false,
        error: None,
    };
    sink.event(&header, &seen, &scope(), ("select a from t where b = $1", None));
}

#[test]
fn a_file_has_a_beginning_its_events_and_an_end_that_says_what_is_missing() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, captures) = (Folder::new("whole"), Arc::<Captures>::default());
    let mut sink = begin(&captures, folder.request("one.jsonl", MAX_BYTES));
    assert!(matches!(captures.start(folder.request("two.jsonl", MAX_BYTES)), Err(Refused::Busy)));
    event(&mut sink, 999_999);
    sink.border(
        &EventHeader { end_us: 1_000_000, flags: EventFlags::SESSION_BEGIN, ..EventHeader::default() },
        Some(&scope()),
    );
    event(&mut sink, 1_000_100);
    event(&mut sink, 1_000_200);
    assert_eq!(sink.look(1_000_300), None);
    assert_eq!(captures.status().unwrap().counts.events, 2);
    assert_eq!(sink.look(11_000_000), Some(Reason::Seconds));
    sink.close(Reason::Seconds, 4, 11_000_000);
    captures.wait_for_end();
    let lines = folder.lines("one.jsonl");
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!((&lines[0]["capture"], &lines[0]["values"]), (&1.into(), &"keep".into()));
    assert_eq!((&lines[1]["session"], &lines[1]["user"]), (&"begin".into(), &"u".into()));
    assert_eq!(lines[2]["class"], "other");
    assert_eq!((&lines[3]["t1"], &lines[3]["tx"], &lines[3]["nrows"]), (&1_000_100.into(), &true.into(), &3.into()));
    assert_eq!(lines[3]["params"], serde_json::json!(["anna"]));
    let end = &lines[5];
    assert_eq!((&end["end"], &end["events"], &end["dropped"]), (&"seconds".into(), &2.into(), &4.into()));
    assert_eq!(end.get("complete"), None, "four are missing");
    let status = captures.status().unwrap();
    let metadata = std::fs::metadata(&status.file).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (status.counts.bytes, 0o600));
    assert!(matches!(captures.start(folder.request("one.jsonl", MAX_BYTES)), Err(Refused::File(_))), "it is made new");
}

#[test]
fn a_file_never_grows_beyond_its_bound() {
    let (folder, captures) = (Folder::new("small"), Arc::<Captures>::default());
    let mut sink = begin(&captures, folder.request("small.jsonl", MIN_BYTES));
    let mut at = 1_000_000;
    while sink.look(at).is_none() {
        at += 10;
        event(&mut sink, at);
    }
    assert_eq!(sink.look(at), Some(Reason::Bytes));
    sink.close(Reason::Bytes, 0, at);
    captures.wait_for_end();
    let lines = folder.lines("small.jsonl");
    assert!(std::fs::metadata(folder.0.join("small.jsonl")).unwrap().len() <= MIN_BYTES);
    assert!(lines.len() > 10);
    let end = &lines[lines.len() - 1];
    assert_eq!((&end["end"], &end["dropped"]), (&"bytes".into(), &1.into()));
    assert_eq!(end.get("complete"), None, "the last event found no room");
}

#[test]
fn a_file_that_failed_says_nothing_of_the_capture_behind_it() {
    let (folder, captures) = (Folder::new("failed"), Arc::<Captures>::default());
    let mut first = begin(&captures, folder.request("first.jsonl", MAX_BYTES));
    event(&mut first, 1_000_100);
    // As its file's thread does, before the analyst has noticed.
    let number = captures.desk().number;
    Numbered { captures: Arc::clone(&captures), number }.note(|status| status.phase = Phase::Ended);
    let mut second = begin(&captures, folder.request("second.jsonl", MAX_BYTES));
    captures.desk().stop = true;
    assert_eq!(first.look(1_000_200), None, "that the other one is stopped is none of its business");
    first.close(Reason::File, 3, 1_000_300);
    let status = captures.status().unwrap();
    assert_eq!((status.phase, status.reason, status.counts), (Phase::Running, None, Counts::default()));
    assert_eq!(second.look(1_000_400), Some(Reason::Stopped));
    second.close(Reason::Stopped, 0, 1_000_500);
    captures.wait_for_end();
    assert_eq!(captures.status().unwrap().reason, Some(Reason::Stopped));
}

#[test]
fn a_request_names_a_file_and_no_place() {
    let (folder, captures) = (Folder::new("names"), Arc::<Captures>::default());
    for name in ["", ".", "..", "../x", "/etc/x", "a/b", ".hidden", "a b", "a\0", &"x".repeat(129)] {
        assert!(matches!(captures.start(folder.request(name, MAX_BYTES)), Err(Refused::Name)), "{name:?}");
    }
    std::os::unix::fs::symlink("/dev/null", folder.0.join("link.jsonl")).unwrap();
    assert!(matches!(captures.start(folder.request("link.jsonl", MAX_BYTES)), Err(Refused::File(_))));
    assert!(captures.status().is_none(), "nothing was begun");
    assert!(matches!(captures.stop(), Err(Refused::None)));
}
