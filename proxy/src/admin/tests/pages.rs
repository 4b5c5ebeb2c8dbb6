//! The dashboard over a real socket: every page, for everybody, with whatever peers have made up.

use super::html::{Element, read};
use super::*;
use crate::telemetry::Untracked;

/// What must not be seen with another tenant's token.
const CANARY: &str = "canary_of_beta";
/// A tenant's name and a statement that try to be more than texts.
const HOSTILE: &str = "<script>alert('x')</script>\"&amp;\u{202e}\0<img src=x onerror=alert(1)>";

/// Every page, with something in each of its places.
pub(super) fn pages() -> Vec<String> {
    let source = include_str!("../pages/mod.rs");
    let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let pages = routes.filter(|path| !path.starts_with("/assets") && !path.starts_with("/actions"));
    let fill = |path: &str| {
        path.replace("{fingerprint}", "0000000000000001").replace("{id}", "of_acme").replace("{name}", "acme")
    };
    let pages: Vec<String> = pages.map(fill).collect();
    assert!(pages.len() >= 12, "{pages:?}");
    pages
}

/// Two tenants have done everything that shows anywhere.
pub(super) async fn port(token: Option<&str>) -> Port {
    let port = Port::start(token, Bounds::default()).await;
    port.traffic();
    *port.proxy.upstreams.lock().unwrap() = Some(vec![UpstreamState::default()]);
    for (tenant, word, strict) in [("acme", "of_acme", 1), ("beta", CANARY, 6), (HOSTILE, HOSTILE, 7)] {
        run(&port, tenant, word, strict);
    }
    port.telemetry.look_at_history(port.telemetry.clock.start_us() + 60_000_000);
    port
}

fn run(port: &Port, tenant: &str, word: &str, strict: u64) {
    let start_us = port.telemetry.clock.start_us();
    let id = TenantId::from(port.telemetry.tenants.id(tenant));
    let worker = port.telemetry.worker("0");
    let text = StatementText {
        class: Class::Select,
        facts: unknown_facts(strict),
        text: format!("select {word} from runs where id = ?").into(),
    };
    let finished = Finished { start_us, end_us: start_us + 9_000_000, ..Finished::default() };
    worker.statement(strict, id, || text).record(&finished);
    worker.pool(word, word).finished(&finished);
    worker.class(id, word).record(&finished);
    let untracked = Untracked {
        reason: "load",
        answer: "pin",
        database: word.into(),
        user: word.into(),
        tenant: tenant.into(),
        application: word.into(),
        fingerprint: strict,
    };
    port.telemetry.untracked.note(untracked, 7, 7);
    port.findings.take(&finding(word, tenant, 1), Timestamp(0));
    port.proxy.clients.lock().unwrap().push(ClientState {
        tenant: tenant.into(),
        application: word.into(),
        database: word.into(),
        state: "waiting",
        ..ClientState::default()
    });
}

/// A request as a browser sends it.
async fn visit(port: &Port, method: &str, path: &str, token: &str, lines: &str) -> Answer {
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: text/html,*/*;q=0.8\r\n");
    port.send(&format!("{head}Authorization: Bearer {token}\r\n{lines}")).await
}

pub(super) async fn open(port: &Port, path: &str, token: &str) -> Answer {
    visit(port, "GET", path, token, "\r\n").await
}

/// A form as a browser sends it.
async fn send(port: &Port, path: &str, token: &str, body: &str) -> Answer {
    let length = body.len();
    let lines = format!(
        "X-Requested-With: test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    visit(port, "POST", path, token, &lines).await
}

/// Where a page leads, on this port.
pub(super) fn links(elements: &[Element]) -> Vec<String> {
    let attribute = |element: &Element| match element.name.as_str() {
        "a" | "link" => element.attribute("href"),
        "script" => element.attribute("src"),
        _ => None,
    };
    elements.iter().filter_map(attribute).filter(|link| !link.starts_with('#')).collect()
}

/// Limits that were reached since the first of two looks.
fn reach_limits(port: &Port) {
    for enforced in [1, 2] {
        port.proxy.enforced.store(enforced, Ordering::Relaxed);
        crate::admin::events::watch::look(&port.context, true);
    }
}

#[tokio::test]
async fn a_tenants_pages_lead_only_to_what_its_token_opens() {
    let port = port(Some("t0ken")).await;
    reach_limits(&port);
    let (mut seen, mut next) = (std::collections::BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(path) = next.pop() {
        let address = path.split('#').next().unwrap().to_owned();
        if !seen.insert(address.clone()) || seen.len() > 300 {
            continue;
        }
        let answer = open(&port, &address, "hunter-of-acme").await;
        // A finding may outlive its statement's figures.
        let is_gone = answer.status == 404 && answer.body.contains("has not run since");
        assert!(answer.status == 200 || is_gone, "{address}: {} {}", answer.status, answer.body);
        if answer.head.contains("content-type: text/html") {
            next.extend(links(&read(&answer.body)));
        }
    }
    assert!(seen.contains("/tenants/acme") && seen.len() > 20, "{seen:?}");
    let overview = open(&port, "/", "hunter-of-acme").await.body;
    assert!(overview.contains("reaches its max_rows"), "{overview}");
}

#[tokio::test]
async fn every_page_is_sound_and_leads_only_to_what_is_there() {
    let port = port(Some("t0ken")).await;
    let (mut seen, mut followed) = (std::collections::BTreeSet::new(), 0);
    let mut next = pages();
    while let Some(path) = next.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let page = path.split(['?', '#']).next().unwrap();
        let address = path.split('#').next().unwrap();
        let answer = open(&port, address, "t0ken").await;
        let is_data = page.starts_with("/api/") || page.starts_with("/assets/");
        // What other parts of the port answer is for them to prove. A finding may outlive its statement's figures.
        let is_gone =
            page.starts_with("/queries/") && answer.status == 404 && answer.body.contains("has not run since");
        assert!(
            answer.status == 200 || is_gone || page.starts_with("/api/"),
            "{path}: {} {}",
            answer.status,
            answer.body
        );
        if is_data {
            continue;
        }
        assert!(answer.head.contains("content-type: text/html; charset=utf-8"), "{path}: {}", answer.head);
        let elements = read(&answer.body);
        assert_eq!(elements.iter().filter(|element| element.name == "h1").count(), 1, "{path}");
        for link in links(&elements) {
            assert!(link.starts_with('/') && !link.starts_with("//"), "{path} leads to {link}");
            followed += 1;
            // One address of each kind is enough: a list leads to a hundred of them.
            if seen.len() < 300 {
                next.push(link);
            }
        }
    }
    assert!(followed > 300, "only {followed} links were followed");
}

#[tokio::test]
async fn what_peers_make_up_stays_text() {
    let port = port(Some("t0ken")).await;
    let huge = format!("{HOSTILE}{}", "ä, ".repeat(350_000));
    let tenant = TenantId::from(port.telemetry.tenants.id("huge"));
    let long = StatementText { class: Class::Select, facts: unknown_facts(8), text: huge.into() };
    port.telemetry
        .worker("0")
        .statement(8, tenant, || long)
        .record(&Finished { end_us: 9_000_000, ..Finished::default() });
    let hostile = format!("/tenants/{}", HOSTILE.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>());
    let statements = ["/queries/0000000000000007", "/queries/0000000000000008"].map(str::to_owned);
    let mut shown = 0;
    for path in pages().into_iter().chain(statements).chain([hostile]) {
        let answer = open(&port, &path, "t0ken").await;
        assert_eq!(answer.status, 200, "{path}");
        drop(read(&answer.body));
        assert!(!answer.body.contains("<script>") && !answer.body.contains("<img"), "{path}");
        assert!(
            !answer.body.contains('\0') && !answer.body.contains('\u{202e}'),
            "{path} has signs that cannot be seen"
        );
        assert!(answer.body.len() < 2_000_000, "{path}: {} bytes", answer.body.len());
        shown += usize::from(answer.body.contains("&lt;script&gt;"));
    }
    assert!(shown >= 6, "only {shown} pages have shown it: this test would see nothing");
}

#[tokio::test]
async fn a_tenants_token_shows_nothing_of_another_on_any_page() {
    let port = port(Some("t0ken")).await;
    let others = ["/queries/0000000000000006", &format!("/findings/{CANARY}"), "/tenants/beta"].map(str::to_owned);
    let (mut opened, mut canaries) = (Vec::new(), 0);
    for path in pages().into_iter().chain(others) {
        for query in [
            "",
            "?tenant=acme",
            "?tenant=beta",
            "?%74enant=beta",
            "?tenant=acme&tenant=beta",
            "?text=canary&state=open",
        ] {
            let answer = open(&port, &format!("{path}{query}"), "hunter-of-acme").await;
            assert!(
                !answer.body.contains(CANARY) && !answer.body.contains("tenants/beta\""),
                "{path}{query}: {}",
                answer.body
            );
            assert!([200, 400, 403, 404].contains(&answer.status), "{path}{query}: {}", answer.status);
            drop(read(&answer.body));
            if query.is_empty() && answer.status == 200 {
                opened.push(path.clone());
            }
        }
        assert_eq!(open(&port, &path, "t0ken-").await.status, 401, "{path}");
        canaries += usize::from(open(&port, &path, "t0ken").await.body.contains(CANARY));
    }
    opened.sort();
    let expected = [
        "/",
        "/connections",
        "/findings",
        "/findings/of_acme",
        "/queries",
        "/queries/0000000000000001",
        "/tenants/acme",
    ];
    assert_eq!(opened, expected);
    assert!(canaries >= 6, "{canaries}: the canary sings where one may hear it");
}

#[tokio::test]
async fn who_may_not_act_has_no_buttons_and_cannot_act() {
    let port = port(Some("t0ken")).await;
    let forms = |page: &str| {
        let elements = read(page);
        let goals = elements.iter().filter_map(|element| element.attribute("action"));
        goals.filter(|goal| goal.starts_with("/actions/")).count()
    };
    let page = "/findings/of_acme";
    assert!(forms(&open(&port, page, "t0ken").await.body) >= 2);
    assert_eq!(forms(&open(&port, page, "hunter-of-acme").await.body), 0);
    let body = "id=of_acme&by=anna&note=goes+with+%2317&back=%2Ffindings%2Fof_acme";
    let refused = send(&port, "/actions/acknowledge", "hunter-of-acme", body).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    let done = send(&port, "/actions/acknowledge", "t0ken", body).await;
    assert_eq!(done.status, 303, "{}", done.body);
    assert!(done.head.contains("location: /findings/of_acme?done=acknowledge"), "{}", done.head);
    let shown = open(&port, "/findings/of_acme?done=acknowledge", "t0ken").await;
    assert!(
        shown.body.contains("goes with #17") && shown.body.contains("The finding is acknowledged."),
        "{}",
        shown.body
    );
    assert_eq!(send(&port, "/actions/withdraw", "t0ken", "id=of_acme&back=//evil.example").await.status, 303);
    for (path, body, status) in [
        ("/actions/acknowledge", "id=nothing&by=x", 404),
        ("/actions/nothing", "", 404),
        ("/actions/acknowledge", "id=of_acme", 400),
        ("/actions/acknowledge", &"x".repeat(17_000), 413),
    ] {
        let answer = send(&port, path, "t0ken", body).await;
        assert_eq!(answer.status, status, "{path} {}", answer.body);
        assert!(answer.head.contains("content-type: text/html"), "{path}: {}", answer.head);
    }
}

#[tokio::test]
async fn a_period_is_told_by_the_heading_and_kept_by_every_link_of_the_list() {
    let port = Port::start(None, Bounds::default()).await;
    let tenant = TenantId::from(port.telemetry.tenants.id("acme"));
    let worker = port.telemetry.worker("0");
    let start_us = port.telemetry.clock.start_us();
    for strict in 1..=60_u64 {
        let finished = Finished { start_us, end_us: start_us + strict * 1_000, ..Finished::default() };
        worker.statement(strict, tenant, || text(strict)).record(&finished);
    }
    port.telemetry.look_at_history(start_us + 60_000_000);
    let heading = |page: &str, title: &str| {
        page.contains(&format!("<h1><bdi>{title}</bdi></h1>")) && page.contains(&format!("<title>{title} · "))
    };
    let first = open(&port, "/queries?tenant=acme&period=1h", "").await.body;
    assert!(heading(&first, "Queries in the last hour"), "{first}");
    assert!(first.contains("<option value=\"1h\" selected>last hour</option>"), "{first}");
    assert!(first.contains("Sums from 2025-12-31 23:01 to 2026-01-01 00:01 UTC; nothing is known"), "{first}");
    let leads: Vec<String> = links(&read(&first)).into_iter().filter(|link| link.starts_with("/queries")).collect();
    let kept: Vec<&String> = leads.iter().filter(|link| link.contains("period=1h")).collect();
    // The menu's entry and the way back to everything begin anew.
    assert_eq!(leads.len() - kept.len(), 2, "{leads:?}");
    assert!(kept.iter().any(|link| link.contains("sort=calls")), "{leads:?}");
    let next = kept.iter().find(|link| link.contains("cursor=")).unwrap();
    let second = open(&port, next, "").await;
    assert!(second.status == 200 && heading(&second.body, "Queries in the last hour"), "{}", second.body);
    let rows = links(&read(&second.body));
    let has = |strict: &str| rows.iter().any(|link| link.starts_with(&format!("/queries/{strict}")));
    assert!(has("000000000000000a") && !has("000000000000000b"), "{rows:?}");
    let detail = kept.iter().find(|link| link.starts_with("/queries/000000000000003c")).unwrap();
    let detail = open(&port, detail, "").await.body;
    assert!(heading(&detail, "Query 000000000000003c in the last hour") && detail.contains("Sums from "), "{detail}");
    let leads = links(&read(&detail));
    for kept in ["/queries?period=1h", "/api/v1/queries/000000000000003c?tenant=acme&amp;period=1h"] {
        let kept = kept.replace("&amp;", "&");
        assert!(leads.contains(&kept), "{kept} in {leads:?}");
    }
    for all in ["/queries", "/queries?period=7m", "/queries/000000000000003c"] {
        let page = open(&port, all, "").await.body;
        assert!(!page.contains(" in the last hour") && !page.contains("Sums from "), "{all}: {page}");
    }
}

#[tokio::test]
async fn pages_load_only_what_is_theirs_and_assets_are_kept() {
    let port = port(None).await;
    let page = open(&port, "/", "").await;
    for line in
        ["content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'", "cache-control: no-store"]
    {
        assert!(page.head.contains(line), "{}", page.head);
    }
    assert!(!page.head.contains("unsafe"), "{}", page.head);
    let assets: Vec<String> =
        links(&read(&page.body)).into_iter().filter(|link| link.starts_with("/assets/")).collect();
    assert!(assets.len() >= 6, "{assets:?}");
    for asset in &assets {
        let answer = port.get(asset).await;
        assert_eq!(answer.status, 200, "{asset}");
        assert!(answer.head.contains("cache-control: public, max-age=31536000, immutable"), "{asset}: {}", answer.head);
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{asset}: {}", answer.head);
    }
    assert_eq!(port.get("/assets/style.0000000000000000.css").await.status, 404);
    let refused = open(&port, "/no/such/page", "").await;
    assert_eq!(refused.status, 404);
    drop(read(&refused.body));
    assert!(open(&port, "/api/v1/nothing", "").await.head.contains("application/problem+json"), "programs get JSON");
    assert!(port.get("/no/such/page").await.head.contains("application/problem+json"), "and so does who wants it");
}

/// Each pair of text and ground of the style sheet, in both themes.
#[test]
fn every_text_stands_out_from_its_ground() {
    let style = include_str!("../pages/assets/style.css");
    let colour = |name: &str, theme: usize| {
        let (_, rest) = style.split_once(&format!("--{name}: light-dark(")).unwrap_or_else(|| panic!("no {name}"));
        let pair = rest.split_once(')').unwrap().0;
        luminance(pair.split(", ").nth(theme).unwrap())
    };
    let grounds = ["ground", "surface", "sunken"];
    let texts = ["text", "muted", "accent", "critical", "warning", "notice", "good", "bad", "sql-word", "sql-value"];
    let on_grounds =
        grounds.iter().flat_map(|ground| texts.iter().map(move |text| (text.to_string(), ground.to_string())));
    let own =
        ["critical", "warning", "notice", "good", "accent"].map(|name| (name.to_owned(), format!("{name}-ground")));
    let on_accent = [("text".to_owned(), "accent-ground".to_owned())];
    for (text, ground) in on_grounds.chain(own).chain(on_accent) {
        for theme in [0, 1] {
            let (one, other) = (colour(&text, theme), colour(&ground, theme));
            let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
            assert!(contrast >= 4.5, "{text} on {ground} in theme {theme}: {contrast:.2}");
        }
    }
    // Lines of charts are shapes: 3 is what they need.
    for (line, theme) in ["one", "two", "three", "bad"].into_iter().flat_map(|line| [(line, 0), (line, 1)]) {
        let (one, other) = (colour(line, theme), colour("surface", theme));
        assert!((one.max(other) + 0.05) / (one.min(other) + 0.05) >= 3.0, "{line} in theme {theme}");
    }
}

/// Relative luminance as WCAG 2 defines it.
fn luminance(hex: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[tokio::test]
async fn pages_of_many_statements_of_many_tenants_are_quick() {
    let bounds = Bounds { fingerprints: 25_000, ..Bounds::default() };
    let port = Port::start(None, bounds).await;
    let tenants: Vec<TenantId> = (0..500).map(|n| port.telemetry.tenants.id(&format!("t{n}")).into()).collect();
    let worker = port.telemetry.worker("0");
    for strict in 1..=5_000_u64 {
        for tenant in 0..2 {
            let tenant = tenants[(strict as usize * 7 + tenant) % tenants.len()];
            let meter = worker.statement(strict, tenant, || text(strict));
            meter.record(&Finished { end_us: strict, ..Finished::default() });
        }
    }
    for path in [
        "/",
        "/queries",
        "/queries/0000000000000001",
        "/findings",
        "/tenants",
        "/tenants/t7",
        "/pools",
        "/limits",
        "/config",
    ] {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let started = Instant::now();
            assert_eq!(open(&port, path, "").await.status, 200, "{path}");
            quickest = quickest.min(started.elapsed());
        }
        println!("{path}: {quickest:?}");
        // Tests are built without optimisation, and run beside others.
        let most = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 100 });
        assert!(quickest < most, "{path} took {quickest:?}");
    }
}
