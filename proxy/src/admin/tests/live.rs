//! What is wrong now, and what happens as it does.

use tokio::io::{AsyncBufReadExt, BufReader};

use super::super::events::watch;
use super::super::source::PoolState;
use super::*;

/// A stream of events that is read.
struct Listening(BufReader<TcpStream>);

impl Listening {
    async fn to(port: &Port, query: &str, lines: &str) -> Self {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let head = format!("GET /api/v1/events{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line that begins so; `None`: it has ended.
    async fn line(&mut self, begins: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await;
            if read.expect("a line").unwrap_or(0) == 0 {
                return None;
            }
            if let Some(rest) = line.strip_prefix(begins) {
                return Some(rest.trim().to_owned());
            }
        }
    }

    /// The data of the next event of this kind.
    async fn event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.line("event: ").await.expect("the stream goes on");
            let data = self.line("data: ").await.expect("an event has data");
            if event == kind {
                return serde_json::from_str(&data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_how_it_goes() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let mut stream = Listening::to(&port, "", "").await;
    assert_eq!(stream.line("HTTP/1.1 ").await.as_deref(), Some("200 OK"));
    assert_eq!(stream.line("content-type: ").await.as_deref(), Some("text/event-stream"));
    // The first look may have been before the traffic.
    port.context.events.soon();
    let mut tick = stream.event("tick").await;
    if tick["clients"] == 0 {
        tick = stream.event("tick").await;
    }
    assert_eq!((&tick["clients"], &tick["upstreams"]), (&6.into(), &4.into()));
    port.findings.take(&finding("a", "acme", 1), Timestamp(0));
    let pool = PoolState { database: "app".into(), user: "u".into(), paused: true, ..PoolState::default() };
    port.proxy.pools.lock().unwrap().push(pool);
    port.context.events.soon();
    let event = stream.event("finding").await;
    assert_eq!((&event["id"], &event["change"]), (&"a".into(), &"opened".into()));
    // In the order in which the watch looks: pools come first, and were passed over.
    let mut again =
        Listening::to(&port, "", &format!("Last-Event-ID: {}-99\r\n", port.telemetry.clock.start_us())).await;
    let mut missed = Listening::to(&port, "", "Last-Event-ID: 1-0\r\n").await;
    assert_eq!(missed.event("lost").await["events"], Value::Null, "another process said that");
    assert_eq!(missed.event("pool").await["change"], "paused");
    port.traffic();
    assert!(again.event("tick").await["statements_per_second"].is_number());
}

#[tokio::test]
async fn a_tenants_stream_tells_of_it_alone() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    port.traffic();
    let mut stream = Listening::to(&port, "", "Authorization: Bearer hunter-of-acme\r\n").await;
    let tick = stream.event("tick").await;
    assert_eq!((&tick["clients"], &tick["upstreams"]), (&7.into(), &Value::Null), "{tick}");
    port.findings.take(&finding("of_beta", "beta", 1), Timestamp(0));
    port.findings.take(&finding("of_acme", "acme", 1), Timestamp(0));
    port.proxy.pools.lock().unwrap().push(PoolState { paused: true, ..PoolState::default() });
    port.context.events.soon();
    assert_eq!(stream.event("finding").await["id"], "of_acme");
    let mut other = Listening::to(&port, "?tenant=beta", "Authorization: Bearer hunter-of-acme\r\n").await;
    assert_eq!(other.line("HTTP/1.1 ").await.as_deref(), Some("403 Forbidden"));
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_port() {
    let mut port = Port::start(None, Bounds::default()).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = Listening::to(&port, "", "").await;
        assert_eq!(stream.line("HTTP/1.1 ").await.as_deref(), Some("200 OK"));
        streams.push(stream);
    }
    let mut refused = Listening::to(&port, "", "").await;
    assert_eq!(refused.line("HTTP/1.1 ").await.as_deref(), Some("503 Service Unavailable"));
    drop(streams.pop());
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let mut stream = Listening::to(&port, "", "").await;
        if stream.line("HTTP/1.1 ").await.as_deref() == Some("200 OK") {
            break;
        }
        assert!(Instant::now() < patience, "no place came back");
    }
    drop(port.stop.take());
    tokio::time::timeout(Duration::from_secs(5), &mut port.served).await.unwrap().unwrap();
    for stream in &mut streams {
        assert_eq!(stream.line("never").await, None);
    }
}

#[tokio::test]
async fn a_token_has_few_streams_and_loses_them_with_its_role() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let open = async |token: &str| {
        let mut stream = Listening::to(&port, "", &format!("Authorization: Bearer {token}\r\n")).await;
        let status = stream.line("HTTP/1.1 ").await.unwrap();
        (stream, status)
    };
    let mut own = Vec::new();
    for _ in 0..4 {
        let (stream, status) = open("hunter-of-acme").await;
        assert_eq!(status, "200 OK");
        own.push(stream);
    }
    assert_eq!(open("hunter-of-acme").await.1, "503 Service Unavailable");
    // What was there before the first look is no news.
    own[0].event("tick").await;
    let (mut operator, status) = open("t0ken").await;
    assert_eq!(status, "200 OK", "one token's streams are not another one's");
    // A reload that leaves the token what it was ends nothing; one that gives it to another tenant does.
    let reload = |tenant: &str| {
        let mut settings = settings_with(Some("t0ken"));
        let tokens = &mut settings.admin.as_mut().unwrap().tokens;
        for token in tokens.iter_mut().filter(|token| token.role.tenant() == Some("acme")) {
            token.role = config::AdminRole::Tenant(tenant.to_owned());
        }
        *port.proxy.settings.lock().unwrap() = Arc::new(settings);
        port.context.events.soon();
    };
    reload("acme");
    port.findings.take(&finding("a", "acme", 1), Timestamp(0));
    assert_eq!(own[0].event("finding").await["id"], "a");
    reload("beta");
    for stream in &mut own {
        assert_eq!(stream.line("never").await, None);
    }
    port.findings.take(&finding("b", "acme", 1), Timestamp(0));
    port.context.events.soon();
    while operator.event("finding").await["id"] != "b" {}
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_an_ordinary_connection_and_ends_in_time() {
    let port = Port::start(None, Bounds::default()).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut bytes = Vec::new();
    _ = stream.read_to_end(&mut bytes).await;
    let lived = began.elapsed();
    assert!((599..=611).contains(&lived.as_secs()), "{lived:?}");
    assert!(bytes.ends_with(b"0\r\n\r\n"), "it ends as an answer does");
}

#[tokio::test]
async fn the_overview_says_what_is_wrong_since_when_and_for_whom() {
    let port = Port::start(None, Bounds::default()).await;
    let calm = port.get("/api/v1/overview").await.json();
    assert_eq!((&calm["verdicts"], calm["checked"].as_array().unwrap().len()), (&serde_json::json!([]), 11));
    port.traffic();
    port.telemetry.look_at_history(port.telemetry.clock.start_us() + 60_000_000);
    port.findings.take(&finding("a", "acme", 1), Timestamp(0));
    port.proxy.draining.store(true, Ordering::Relaxed);
    port.proxy.reloads.lock().unwrap().refused(std::time::SystemTime::now(), "pgweir.toml:3: no such key\nand more");
    let waiting_for = Some(Duration::from_secs(7));
    let pool = PoolState { database: "app".into(), user: "u".into(), waiting: 3, waiting_for, ..PoolState::default() };
    port.proxy.pools.lock().unwrap().push(PoolState { queue_timeout: Duration::from_secs(10), ..pool });
    watch::look(&port.context, true);
    let now = port.get("/api/v1/overview").await.json();
    let told: Vec<_> = now["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["kind"].as_str().unwrap(), one["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(told[0], ("pool_exhausted", "critical"), "{now}");
    for expected in [("reload_failed", "warning"), ("findings", "warning"), ("draining", "notice")] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
    let first = &now["verdicts"][0];
    assert_eq!((&first["whom"]["database"], &first["numbers"]["waiting"]), (&"app".into(), &3.0.into()));
    assert!(first["since"].is_string() && first["advice"].as_str().unwrap().len() > 20, "{first}");
    assert_eq!((&now["numbers"]["clients"], &now["numbers"]["findings_open"]), (&6.into(), &1.into()));
    let own = port.get("/api/v1/overview?tenant=beta").await.json();
    assert_eq!((&own["verdicts"], &own["numbers"]["upstreams_idle"]), (&serde_json::json!([]), &Value::Null), "{own}");
    assert!(!own.to_string().contains("acme"), "{own}");
}
