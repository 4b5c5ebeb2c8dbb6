//! What a browser says of where a request comes from, and what it keeps for us.
//!
//! A page of another site can have a browser send requests here, with the cookie or from the same machine. It can neither
//! read the answers nor know what a form of ours holds ([`Viewer::csrf`](super::Viewer::csrf)); and what the browser itself
//! says of the page is believed, because no page can change it.

use std::net::IpAddr;

use axum::extract::Query;
use axum::http::{HeaderMap, Method, Uri, header};
use subtle::ConstantTimeEq as _;

use super::sessions::SessionId;

/// The cookie's name over TLS: a browser takes one of this name from us alone, over TLS, for this host alone.
const SECURE_COOKIE: &str = "__Host-pgweir";
/// And in clear text.
const COOKIE: &str = "pgweir";
/// The header by which a script proves that it is ours.
const CSRF_HEADER: &str = "x-csrf-token";
/// The field by which a form does.
const CSRF_FIELD: &str = "csrf";
/// Longest address that somebody is led back to after logging in, in bytes.
const MAX_NEXT: usize = 1024;

/// Whether the Host header is `localhost` or an address, with or without a port.
pub(super) fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// Whether a page of another site, another port included, has had this sent: as far as the browser says. Following a link to
/// a page is no such thing.
pub(super) fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let looks = [Method::GET, Method::HEAD].contains(method);
    match text("sec-fetch-site") {
        Some("same-origin" | "none") => false,
        Some(_) => !(looks && text("sec-fetch-mode") == Some("navigate")),
        // Browsers before 2023, which say it with what is more than a look.
        None => match text("origin") {
            Some(origin) => {
                let named = origin.split_once("://").map(|(_, authority)| authority);
                named.is_none() || named != text("host")
            }
            None => headers.contains_key("origin"),
        },
    }
}

/// Whether a page is asked for, by somebody who can be shown another one instead.
pub(super) fn wants_page(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    [Method::GET, Method::HEAD].contains(method)
        && !path.starts_with("/api/")
        && path != "/metrics"
        && !headers.contains_key(header::AUTHORIZATION)
        && accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

/// The session that a request names.
pub(super) fn session_of(headers: &HeaderMap, secure: bool) -> Option<SessionId> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs: Vec<(&str, &str)> =
        cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('=')).collect();
    let named = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| SessionId::given(value));
    // In clear text TLS may end in front of us.
    named(SECURE_COOKIE).or_else(|| named(COOKIE).filter(|_| !secure))
}

/// `Set-Cookie` for a session that begins, or for none: the one there is ends.
pub(super) fn cookie(id: Option<&SessionId>, secure: bool) -> String {
    let name = if secure { SECURE_COOKIE } else { COOKIE };
    let secure = if secure { "; Secure" } else { "" };
    match id {
        Some(id) => format!("{name}={}; Path=/; HttpOnly; SameSite=Strict{secure}", id.as_str()),
        None => format!("{name}=; Path=/; HttpOnly; SameSite=Strict{secure}; Max-Age=0"),
    }
}

/// Whether TLS ends in front of us, by what stands there says. Whoever makes that up spoils a cookie of its own.
pub(super) fn is_said_to_be_secure(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Whether a script has sent the proof.
pub(super) fn proves_by_header(headers: &HeaderMap, csrf: &str) -> bool {
    headers.get(CSRF_HEADER).is_some_and(|given| given.as_bytes().ct_eq(csrf.as_bytes()).into())
}

/// Whether a form has.
pub(super) fn proves_by_field(form: &[(String, String)], csrf: &str) -> bool {
    field(form, CSRF_FIELD).is_some_and(|given| given.as_bytes().ct_eq(csrf.as_bytes()).into())
}

/// A field of a form; `None`: it is not there, or twice.
pub(super) fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = form.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value);
    found.next().filter(|_| found.next().is_none())
}

/// Whether a body is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// The fields of a form. It is encoded as the parameters of an address are.
pub(super) fn form_of(body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let uri = format!("/?{text}").parse::<Uri>().ok()?;
    Query::<Vec<(String, String)>>::try_from_uri(&uri).ok().map(|Query(form)| form)
}

/// Where somebody is led after logging in: a path here, and never an address elsewhere.
pub(super) fn next_of(wanted: Option<&str>) -> &str {
    let is_ours = |next: &&str| {
        let local = next.starts_with('/') && !next.starts_with("//") && !next.starts_with("/login");
        local && next.len() <= MAX_NEXT && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    wanted.filter(is_ours).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn what_a_browser_says_of_a_page_decides() {
        let own = ("host", "pgweir.example:6433");
        for (method, said, foreign) in [
            (Method::POST, &[own][..], false),
            (Method::POST, &[own, ("sec-fetch-site", "same-origin"), ("origin", "null")], false),
            (Method::POST, &[own, ("sec-fetch-site", "none")], false),
            (Method::POST, &[own, ("sec-fetch-site", "cross-site")], true),
            (Method::POST, &[own, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")], true),
            (Method::GET, &[own, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
            (Method::GET, &[own, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], true),
            (Method::POST, &[own, ("origin", "https://pgweir.example:6433")], false),
            (Method::POST, &[own, ("origin", "https://pgweir.example")], true),
            (Method::POST, &[own, ("origin", "https://evil.example")], true),
            (Method::POST, &[own, ("origin", "null")], true),
            (Method::POST, &[("origin", "https://pgweir.example:6433")], true),
        ] {
            assert_eq!(is_foreign(&method, &headers(said)), foreign, "{method} {said:?}");
        }
    }

    #[test]
    fn pages_are_told_from_what_programs_ask_for() {
        let browser = headers(&[("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")]);
        assert!(wants_page(&Method::GET, "/", &browser) && wants_page(&Method::GET, "/queries", &browser));
        assert!(!wants_page(&Method::POST, "/", &browser) && !wants_page(&Method::GET, "/metrics", &browser));
        assert!(!wants_page(&Method::GET, "/api/v1/queries", &browser));
        assert!(!wants_page(&Method::GET, "/", &headers(&[("accept", "*/*")])));
        assert!(!wants_page(&Method::GET, "/", &headers(&[("accept", "text/html"), ("authorization", "Bearer x")])));
    }

    #[test]
    fn a_cookie_of_clear_text_is_none_over_tls() {
        let both = headers(&[("cookie", "a=b; pgweir=plain; __Host-pgweir=secure")]);
        let plain = headers(&[("cookie", "x=y"), ("cookie", "pgweir=plain")]);
        let found = |headers: &HeaderMap, secure| session_of(headers, secure).map(|id| id.as_str().to_owned());
        assert_eq!(found(&both, true).as_deref(), Some("secure"));
        assert_eq!(found(&both, false).as_deref(), Some("secure"));
        assert_eq!(found(&plain, false).as_deref(), Some("plain"));
        assert_eq!(found(&plain, true), None);
        assert_eq!(found(&headers(&[("cookie", "pgweirs=plain; =; pgweir")]), false), None);
        let id = SessionId::new([7; 32]);
        let set = cookie(Some(&id), true);
        assert_eq!(set, format!("__Host-pgweir={}; Path=/; HttpOnly; SameSite=Strict; Secure", id.as_str()));
        assert!(!cookie(Some(&id), false).contains("Secure") && cookie(None, false).ends_with("Max-Age=0"));
    }

    #[test]
    fn nobody_is_led_elsewhere() {
        for own in ["/", "/queries?tenant=a%26b", "/findings/x"] {
            assert_eq!(next_of(Some(own)), own);
        }
        let long = format!("/{}", "x".repeat(MAX_NEXT));
        for elsewhere in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "queries",
            "/login",
            "/a b",
            "/a\n",
            &long,
        ] {
            assert_eq!(next_of(Some(elsewhere)), "/", "{elsewhere:?}");
        }
        assert_eq!(next_of(None), "/");
    }

    #[test]
    fn a_form_proves_by_its_field_once() {
        let form = form_of(b"a=1+2&csrf=x%26y&next=%2F").unwrap();
        assert!(proves_by_field(&form, "x&y") && !proves_by_field(&form, "x"));
        assert_eq!(field(&form, "a"), Some("1 2"));
        assert!(!proves_by_field(&form_of(b"csrf=x&csrf=x").unwrap(), "x"));
        assert!(!proves_by_field(&form_of(b"").unwrap(), ""), "no field is no proof of nothing");
        assert_eq!(form_of(b"a=\xff"), None);
        assert!(is_form(&headers(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")])));
        assert!(!is_form(&headers(&[("content-type", "application/json")])));
        assert!(proves_by_header(&headers(&[("x-csrf-token", "x")]), "x"));
        assert!(!proves_by_header(&headers(&[]), ""));
    }
}
