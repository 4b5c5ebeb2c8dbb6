//! What people say about findings, over HTTP.

use serde_json::json;

use super::*;

impl Port {
    /// A request that changes something, with this JSON if there is any.
    async fn change(&self, method: &str, path: &str, json: Option<&Value>) -> Answer {
        let mut lines = "X-Requested-With: a test\r\n".to_owned();
        let body = json.map(Value::to_string).unwrap_or_default();
        if json.is_some() {
            lines += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        self.send(&(change(method, path, &lines) + &body)).await
    }

    async fn states(&self) -> Vec<(String, String)> {
        let listed = self.get("/api/v1/findings").await.json();
        let row = |kept: &Value| [&kept["id"], &kept["state"]].map(|text| text.as_str().unwrap().to_owned());
        let mut states: Vec<_> = listed["findings"].as_array().unwrap().iter().map(|kept| row(kept).into()).collect();
        states.sort();
        states
    }
}

async fn port() -> Port {
    let port = Port::start(None, Bounds::default()).await;
    port.findings.take(&finding("a", "acme", 1), Timestamp(0));
    port.findings.take(&finding("b", "beta", 2), Timestamp(0));
    port
}

fn are(states: [&str; 2]) -> Vec<(String, String)> {
    ["a", "b"].into_iter().zip(states).map(|(id, state)| (id.to_owned(), state.to_owned())).collect()
}

#[tokio::test]
async fn a_finding_is_acknowledged_and_open_again_when_that_is_taken_back() {
    let port = port().await;
    let path = "/api/v1/findings/a/acknowledge";
    let answer = port.change("POST", path, Some(&json!({"by": "anna", "note": "after the release"}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let shown = answer.json();
    assert_eq!(shown["state"], "acknowledged");
    assert_eq!(shown["acknowledged"]["by"], "anna");
    assert_eq!(shown["acknowledged"]["note"], "after the release");
    assert_eq!(shown["acknowledged"]["count"], 97);
    assert_eq!(port.states().await, are(["acknowledged", "open"]));
    assert_eq!(port.get("/api/v1/findings?state=acknowledged").await.json()["total"], 1);
    assert_eq!(port.change("DELETE", path, None).await.json()["state"], "open");
    assert_eq!(port.states().await, are(["open", "open"]));
    let unknown = port.change("POST", "/api/v1/findings/z/acknowledge", Some(&json!({"by": "anna"}))).await;
    assert_eq!(unknown.status, 404);
    for wrong in
        [json!({}), json!({"by": ""}), json!({"by": "x".repeat(129)}), json!({"by": "a", "not": "b"}), json!(7)]
    {
        assert_eq!(port.change("POST", path, Some(&wrong)).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn mutes_are_added_listed_and_deleted() {
    let port = port().await;
    let made =
        port.change("POST", "/api/v1/mutes", Some(&json!({"tenant": "acme", "for": "1h", "note": "known"}))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(port.states().await, are(["muted", "open"]));
    let listed = port.get("/api/v1/mutes").await.json();
    assert_eq!(listed["mutes"], json!([made.json()]));
    assert_eq!((&listed["mutes"][0]["origin"], &listed["mutes"][0]["tenant"]), (&json!("api"), &json!("acme")));
    assert!(listed["mutes"][0]["until"].is_string());
    let path = format!("/api/v1/mutes/{}", made.json()["id"].as_str().unwrap());
    let gone = port.change("DELETE", &path, None).await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    assert_eq!(port.change("DELETE", &path, None).await.status, 404);
    assert_eq!(port.states().await, are(["open", "open"]));
    let fingerprint = finding("a", "acme", 1).child.fingerprint;
    let both = port.change("POST", "/api/v1/mutes", Some(&json!({"fingerprint": fingerprint}))).await;
    assert_eq!((both.status, port.states().await), (201, are(["muted", "muted"])));
}

#[tokio::test]
async fn a_mute_that_makes_no_sense_is_refused_with_words() {
    let port = port().await;
    for (body, words) in [
        (json!({}), "would silence every finding"),
        (json!({"note": "all"}), "would silence every finding"),
        (json!({"fingerprint": "7"}), "`fingerprint` is not a fingerprint"),
        (json!({"kind": "n+1"}), "`kind` is not a kind"),
        (json!({"user": "u", "until": "soon"}), "`until` is not a moment"),
        (json!({"user": "u", "until": "2020-01-01"}), "ended already"),
        (json!({"user": "u", "for": "0"}), "ended already"),
        (json!({"user": "u", "until": "2100-01-01", "for": "1h"}), "one of them"),
        (json!({"user": "u".repeat(300)}), "`user` is longer"),
        (json!({"users": "u"}), "unknown field"),
    ] {
        let answer = port.change("POST", "/api/v1/mutes", Some(&body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(words), "{body}: {}", answer.body);
    }
    assert_eq!(port.states().await, are(["open", "open"]));
}

#[tokio::test]
async fn a_body_is_small_and_json_and_goes_where_one_is_taken() {
    let port = port().await;
    let path = "/api/v1/mutes";
    let large = json!({"user": "u", "note": "n".repeat(17_000)});
    assert_eq!(port.change("POST", path, Some(&large)).await.status, 413);
    let body = json!({"user": "u"}).to_string();
    for (kind, status) in
        [("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("Application/JSON; charset=utf-8", 201)]
    {
        let lines = format!("X-Requested-With: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        assert_eq!(port.send(&(change("POST", path, &lines) + &body)).await.status, status, "{kind}");
    }
    for (method, path) in
        [("GET", path), ("DELETE", "/api/v1/mutes/1"), ("POST", "/api/v1/findings"), ("POST", "/livez")]
    {
        assert_eq!(port.change(method, path, Some(&json!({"user": "u"}))).await.status, 413, "{method} {path}");
    }
    // What the header of intent is for: a form or a script of a foreign page.
    let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    assert_eq!(port.send(&(change("POST", path, &lines) + &body)).await.status, 403);
    let allow = port.change("PUT", path, None).await;
    assert!(allow.status == 405 && allow.head.contains("allow: get,head,post"), "{}", allow.head);
}

#[tokio::test]
async fn a_follower_has_a_cursor_and_a_fence() {
    let port = port().await;
    let first = port.get("/api/v1/findings?since=0&limit=1").await.json();
    assert_eq!((&first["total"], &first["sequence"], &first["findings"][0]["id"]), (&json!(2), &json!(1), &json!("a")));
    assert_eq!(first["judged_until"], Value::Null, "no analyst runs");
    let next = port.get("/api/v1/findings?since=1&limit=1").await.json();
    assert_eq!((&next["sequence"], &next["findings"][0]["id"]), (&json!(2), &json!("b")));
    let fence = port.get("/api/v1/findings/fence").await.json();
    port.findings.settle(serde_json::from_value(fence["moment"].clone()).unwrap());
    let settled = port.get("/api/v1/findings?since=2").await.json();
    assert_eq!((&settled["judged_until"], &settled["total"]), (&fence["moment"], &json!(0)));
    assert!(settled["now"].as_str().unwrap() >= fence["moment"].as_str().unwrap());
    for wrong in ["since=-1", "since=x", "state=closed", "kind=n+1", "limit=0", "format=json", "sort=calls"] {
        assert_eq!(port.get(&format!("/api/v1/findings?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn findings_are_exported_in_four_forms() {
    let port = port().await;
    let get = async |query: &str| port.get(&format!("/api/v1/findings/export{query}")).await;
    let json = get("").await;
    assert_eq!(json.json()["findings"].as_array().unwrap().len(), 2);
    assert!(json.head.contains("content-type: application/json"), "{}", json.head);
    let lines = get("?format=ndjson&tenant=beta").await;
    let rows: Vec<Value> = lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["id"]), (1, &json!("b")));
    let page = get("?format=markdown").await;
    assert!(page.head.contains("text/markdown") && page.body.starts_with("## Findings"), "{}", page.body);
    let report = get("?format=junit").await;
    assert!(report.head.contains("application/xml") && report.body.contains("failures=\"2\""), "{}", report.body);
    assert_eq!(get("?format=pdf").await.status, 400);
}

#[test]
fn what_is_said_about_findings_is_logged_with_where_it_came_from() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lines = crate::log::testing::json_lines(|| {
        runtime.block_on(async {
            let port = port().await;
            let path = "/api/v1/findings/a/acknowledge";
            port.change("POST", path, Some(&json!({"by": "anna", "note": "soon"}))).await;
            port.change("DELETE", path, None).await;
            port.change("POST", "/api/v1/mutes", Some(&json!({"tenant": "acme"}))).await;
            port.change("DELETE", "/api/v1/mutes/1", None).await;
            assert_eq!(port.change("DELETE", "/api/v1/mutes/1", None).await.status, 404, "nothing to log");
        });
    });
    let lines: Vec<_> = lines.iter().filter(|line| line["target"] == "admin").map(|line| &line["fields"]).collect();
    let said: Vec<_> = lines.iter().map(|fields| (&fields["message"], &fields["id"])).map(|said| json!(said)).collect();
    assert_eq!(
        said,
        [
            json!(["finding acknowledged", "a"]),
            json!(["acknowledgement withdrawn", "a"]),
            json!(["mute added", "1"]),
            json!(["mute taken away", "1"])
        ]
    );
    assert_eq!((&lines[0]["by"], &lines[0]["note"]), (&json!("anna"), &json!("soon")));
    assert!(lines[2]["mute"].as_str().unwrap().contains("acme"));
    for fields in lines {
        assert!(fields["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{fields}");
    }
}
