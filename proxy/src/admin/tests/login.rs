//! Browsers: logging in, what a session opens, and what it needs to change something.

use super::*;

/// A request as a browser sends it.
async fn browse(port: &Port, method: &str, path: &str, lines: &str, form: &str) -> Answer {
    let length = form.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: pgweir.example\r\nConnection: close\r\nAccept: text/html,*/*\r\n{lines}"
    );
    let kind = match form.is_empty() {
        true => String::new(),
        false => format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"),
    };
    port.send(&format!("{head}{kind}\r\n{form}")).await
}

fn line<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Logs in; the line with the cookie.
async fn log_in(port: &Port, token: &str) -> String {
    let answer =
        browse(port, "POST", "/login", "Sec-Fetch-Site: same-origin\r\n", &format!("token={token}&next=%2F")).await;
    assert_eq!((answer.status, line(&answer, "location")), (303, Some("/")), "{}", answer.head);
    let cookie = line(&answer, "set-cookie").unwrap();
    assert!(cookie.ends_with("; path=/; httponly; samesite=strict"), "{cookie}");
    format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
}

#[tokio::test]
async fn a_page_without_a_session_leads_to_the_login_and_the_api_says_401() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    for (path, next) in [("/", "%2F"), ("/queries?tenant=a", "%2F%71%75%65%72%69%65%73%3F%74%65%6E%61%6E%74%3D%61")] {
        let answer = browse(&port, "GET", path, "", "").await;
        assert_eq!(answer.status, 303, "{path}");
        assert_eq!(line(&answer, "location"), Some(&*format!("/login?next={next}").to_lowercase()));
    }
    for path in ["/api/v1/queries", "/metrics"] {
        assert_eq!(browse(&port, "GET", path, "", "").await.status, 401, "{path}");
    }
    assert_eq!(browse(&port, "POST", "/queries", "", "a=b").await.status, 401, "nothing is asked again");
    let wrong = browse(&port, "GET", "/", "Cookie: pgweir=0123\r\n", "").await;
    assert_eq!(wrong.status, 303);
    let page = browse(&port, "GET", "/login?next=%2Fqueries", "", "").await;
    assert!(page.status == 200 && page.body.contains("name=\"next\" value=\"/queries\""), "{}", page.body);
    let policy = line(&page, "content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(line(&page, "referrer-policy"), Some("same-origin"));
    assert!(browse(&port, "GET", "/login?next=//evil.example", "", "").await.body.contains("value=\"/\""));
}

#[tokio::test]
async fn a_session_opens_what_its_token_opens_until_it_is_ended() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let get = async |path: &str, cookie: &str| browse(&port, "GET", path, cookie, "").await.status;
    let operator = log_in(&port, "t0ken").await;
    let tenant = log_in(&port, "hunter-of-acme").await;
    assert_eq!((get("/api/v1/pools", &operator).await, get("/api/v1/audit", &operator).await), (200, 200));
    assert_eq!((get("/api/v1/queries", &tenant).await, get("/api/v1/pools", &tenant).await), (200, 403));
    for bad in ["token=wrong", "token=", "", "token=t0ken&token=t0ken"] {
        let answer = browse(&port, "POST", "/login", "", bad).await;
        assert!(answer.status == 401 && answer.body.contains("not known here"), "{bad}: {}", answer.status);
        assert!(line(&answer, "set-cookie").is_none());
    }
    // A foreign page can neither log somebody in nor out.
    for foreign in ["Sec-Fetch-Site: cross-site\r\n", "Origin: https://evil.example\r\n"] {
        assert_eq!(browse(&port, "POST", "/login", foreign, "token=t0ken").await.status, 403);
        assert_eq!(browse(&port, "GET", "/api/v1/pools", &format!("{operator}{foreign}"), "").await.status, 403);
        for cookie in ["", &operator] {
            let out = browse(&port, "POST", "/logout", &format!("{cookie}{foreign}"), "csrf=guess").await;
            assert_eq!((out.status, line(&out, "set-cookie")), (403, None), "the cookie stays");
        }
    }
    assert_eq!(browse(&port, "POST", "/logout", &operator, "csrf=guess").await.status, 403);
    assert_eq!(get("/api/v1/pools", &operator).await, 200);
    let shown = browse(&port, "GET", "/api/v1/session", &operator, "").await.json();
    assert_eq!((&shown["name"], &shown["role"]), (&"admin.token".into(), &"operator".into()));
    let csrf = shown["csrf"].as_str().unwrap();
    let out = browse(&port, "POST", "/logout", &operator, &format!("csrf={csrf}")).await;
    assert_eq!((out.status, line(&out, "location")), (303, Some("/login")));
    assert!(line(&out, "set-cookie").unwrap().ends_with("max-age=0"));
    assert_eq!(get("/api/v1/pools", &operator).await, 401, "the number is of no use to whoever has kept it");
    assert_eq!(get("/api/v1/queries", &tenant).await, 200, "others go on");
}

#[tokio::test]
async fn a_session_changes_nothing_without_its_proof() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let (own, other) = (log_in(&port, "t0ken").await, log_in(&port, "t0ken").await);
    let proof = async |cookie: &str| {
        browse(&port, "GET", "/api/v1/session", cookie, "").await.json()["csrf"].as_str().unwrap().to_owned()
    };
    let (csrf, others) = (proof(&own).await, proof(&other).await);
    assert_ne!(csrf, others);
    let reset =
        async |lines: &str| browse(&port, "POST", "/api/v1/queries/reset", &format!("{own}{lines}"), "").await.status;
    for without in [
        String::new(),
        "X-Requested-With: x\r\n".to_owned(),
        format!("X-CSRF-Token: {others}\r\n"),
        "X-CSRF-Token: \r\n".to_owned(),
        format!("X-CSRF-Token: {csrf}\r\nSec-Fetch-Site: cross-site\r\n"),
        format!("X-CSRF-Token: {csrf}\r\nOrigin: https://evil.example\r\n"),
        format!("X-CSRF-Token: {csrf}\r\nSec-Fetch-Site: same-site\r\n"),
    ] {
        assert_eq!(reset(&without).await, 403, "{without}");
    }
    assert_eq!(reset(&format!("X-CSRF-Token: {csrf}\r\n")).await, 200);
    assert_eq!(reset(&format!("X-CSRF-Token: {csrf}\r\nSec-Fetch-Site: same-origin\r\nOrigin: null\r\n")).await, 200);
    // By a form, as pages have them; there is no such page here.
    let form = async |fields: &str| browse(&port, "POST", "/nothing", &own, fields).await.status;
    assert_eq!(form(&format!("a=b&csrf={csrf}")).await, 404);
    for wrong in [format!("csrf={others}"), format!("csrf={csrf}&csrf={csrf}"), "a=b".to_owned()] {
        assert_eq!(form(&wrong).await, 403, "{wrong}");
    }
    assert_eq!(form(&format!("csrf={csrf}&a={}", "x".repeat(17_000))).await, 413);
    // A viewer proves as much, and changes nothing all the same.
    let viewer = log_in(&port, "hunter-of-grafana").await;
    let lines = format!("{viewer}X-CSRF-Token: {}\r\n", proof(&viewer).await);
    assert_eq!(browse(&port, "POST", "/api/v1/queries/reset", &lines, "").await.status, 403);
    // A token needs none: no page can make a browser send it.
    let bearer = browse(&port, "POST", "/api/v1/queries/reset", "Authorization: Bearer t0ken\r\n", "").await;
    assert_eq!(bearer.status, 200);
}

#[tokio::test]
async fn without_tokens_nobody_logs_in_and_forms_still_prove_where_they_come_from() {
    let port = Port::start(None, Bounds::default()).await;
    let local = async |method: &str, path: &str, lines: &str, form: &str| {
        let kind = match form.is_empty() {
            true => String::new(),
            false => format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len()),
        };
        port.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:6433\r\nConnection: close\r\n{lines}{kind}\r\n{form}"
        ))
        .await
    };
    let login = local("GET", "/login?next=%2Fqueries", "", "").await;
    assert_eq!((login.status, line(&login, "location")), (303, Some("/queries")));
    let shown = local("GET", "/api/v1/session", "", "").await.json();
    assert_eq!((&shown["name"], &shown["role"]), (&"local".into(), &"operator".into()));
    let csrf = shown["csrf"].as_str().unwrap();
    assert_eq!(local("POST", "/nothing", "", "a=b").await.status, 403);
    assert_eq!(local("POST", "/nothing", "", &format!("csrf={csrf}")).await.status, 404);
    assert_eq!(local("POST", "/nothing", "Sec-Fetch-Site: cross-site\r\n", &format!("csrf={csrf}")).await.status, 403);
    assert_eq!(
        local("GET", "/api/v1/pools", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", "").await.status,
        403
    );
    assert_eq!(
        local("GET", "/api/v1/pools", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", "").await.status,
        200
    );
    assert_eq!(local("POST", "/api/v1/queries/reset", &format!("X-CSRF-Token: {csrf}\r\n"), "").await.status, 200);
}
