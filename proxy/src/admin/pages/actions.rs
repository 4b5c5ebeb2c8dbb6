//! `/actions/{name}`: what forms are sent to. Each is one request to the API, as the same viewer; the page that the form
//! stood on is shown again. The doorkeeper has seen to it that the form is one of our own.

use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::html;
use serde_json::{Map, Value, json};

use super::super::body::whole;
use super::layout::{Section, Sheet, is_told, page as framed};
use super::show::text::{encoded, visible};
use super::visit::{Pages, Said, Visit};

/// The longest address that is gone back to, in bytes.
const LONGEST_BACK: usize = 2_048;

/// What a form has sent.
struct Form(Vec<(String, String)>);

impl Form {
    /// A form is encoded as the parameters of an address are.
    fn read(body: &[u8]) -> Option<Self> {
        let uri: Uri = format!("/?{}", std::str::from_utf8(body).ok()?).parse().ok()?;
        Query::try_from_uri(&uri).ok().map(|Query(fields)| Self(fields))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// These fields as JSON, those that are empty left out.
    fn json(&self, names: &[&str]) -> Value {
        let fields = names.iter().filter(|name| !self.get(name).is_empty());
        Value::Object(fields.map(|name| ((*name).to_owned(), json!(self.get(name)))).collect::<Map<_, _>>())
    }

    /// These fields as parameters, those that are empty left out.
    fn query(&self, names: &[&str]) -> String {
        let fields = names.iter().map(|name| (*name, self.get(name))).filter(|(_, value)| !value.is_empty());
        super::visit::query(fields)
    }
}

/// The request that an action stands for.
struct Wanted {
    method: Method,
    address: String,
    body: Option<Value>,
}

impl Wanted {
    fn of(name: &str, form: &Form) -> Option<Self> {
        let post = |address: String, body: Option<Value>| Some(Self { method: Method::POST, address, body });
        let delete = |address: String| Some(Self { method: Method::DELETE, address, body: None });
        let id = encoded(form.get("id"));
        let (database, client) = (encoded(form.get("database")), encoded(form.get("client")));
        match name {
            "acknowledge" => post(format!("/api/v1/findings/{id}/acknowledge"), Some(form.json(&["by", "note"]))),
            "withdraw" => delete(format!("/api/v1/findings/{id}/acknowledge")),
            "mute" => post(
                "/api/v1/mutes".to_owned(),
                Some(form.json(&["fingerprint", "kind", "database", "application", "tenant", "route", "for", "note"])),
            ),
            "unmute" => delete(format!("/api/v1/mutes/{id}")),
            "reset" => post(format!("/api/v1/queries/reset{}", form.query(&["fingerprint", "tenant"])), None),
            "reload" => post("/api/v1/reload".to_owned(), None),
            "pause" | "resume" | "reconnect" => post(format!("/api/v1/databases/{database}/{name}"), None),
            "kill" | "cancel" => post(format!("/api/v1/clients/{client}/{name}"), None),
            "log-level" => post("/api/v1/log-level".to_owned(), Some(form.json(&["filter", "for"]))),
            "cache-mode" => post("/api/v1/cache/mode".to_owned(), Some(form.json(&["mode"]))),
            "cache-end" => {
                let mut body = form.json(&["database", "table", "tag", "tenant"]);
                if form.get("all") == "true"
                    && let Some(fields) = body.as_object_mut()
                {
                    fields.insert("all".to_owned(), true.into());
                }
                post("/api/v1/cache/invalidate".to_owned(), Some(body))
            }
            "drain" => post("/api/v1/drain".to_owned(), None),
            _ => None,
        }
    }
}

pub(super) async fn act(State(_): State<Pages>, Path(name): Path<String>, visit: Visit, request: Request) -> Response {
    let body = match whole(request).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let Some(form) = Form::read(&body) else {
        return told(&visit, StatusCode::BAD_REQUEST, "The form cannot be read.", "/");
    };
    let back = back(form.get("back"));
    let Some(wanted) = Wanted::of(&name, &form) else {
        return told(&visit, StatusCode::NOT_FOUND, "There is no such action.", back);
    };
    match visit.send(wanted.method, &wanted.address, wanted.body.as_ref()).await {
        Said::Answer(_) => Redirect::to(&with_done(back, &name)).into_response(),
        Said::Refusal { status, detail } => told(&visit, status, &detail, back),
    }
}

/// Where somebody goes back to: a path here, and never an address elsewhere.
fn back(wanted: &str) -> &str {
    let local = wanted.starts_with('/') && !wanted.starts_with("//") && wanted.len() <= LONGEST_BACK;
    let plain = wanted.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#');
    if local && plain { wanted } else { "/" }
}

/// The page again, with a word on what was done.
fn with_done(back: &str, name: &str) -> String {
    if !is_told(name) {
        return back.to_owned();
    }
    let sign = if back.contains('?') { '&' } else { '?' };
    format!("{back}{sign}done={name}")
}

fn told(visit: &Visit, status: StatusCode, detail: &str, back: &str) -> Response {
    let sheet = Sheet::new("Not done", Section::Overview).status(status);
    let content = html! {
        div.verdict.warning { p.tags { span.tag.warning { (status.as_u16()) } } h3 { (visible(detail)) } }
        p { a href=(back) { "Back" } }
    };
    framed(visit, &sheet, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &'static str) -> Form {
        Form::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn nobody_is_led_elsewhere() {
        for own in ["/", "/findings/a?x=1&y=%20"] {
            assert_eq!(back(own), own);
        }
        for elsewhere in ["", "//evil.example", "https://evil.example", "/\\evil", "/a b", "/a\r\nSet-Cookie: x", "/#x"]
        {
            assert_eq!(back(elsewhere), "/", "{elsewhere:?}");
        }
        assert_eq!(with_done("/pools?a=b", "pause"), "/pools?a=b&done=pause");
        assert_eq!(with_done("/pools", "unknown"), "/pools");
    }

    #[test]
    fn a_form_becomes_one_request_and_no_other() {
        let wanted = Wanted::of("acknowledge", &form("id=a%2F..%2Fb&by=anna&note=")).unwrap();
        assert_eq!(wanted.address, "/api/v1/findings/a%2F..%2Fb/acknowledge");
        assert_eq!(wanted.body, Some(json!({"by": "anna"})));
        let wanted = Wanted::of("reset", &form("fingerprint=00ff&tenant=a%26b")).unwrap();
        assert_eq!(wanted.address, "/api/v1/queries/reset?fingerprint=00ff&tenant=a%26b");
        let wanted = Wanted::of("cache-end", &form("table=a.b&database=&all=")).unwrap();
        assert_eq!((wanted.address.as_str(), wanted.body), ("/api/v1/cache/invalidate", Some(json!({"table": "a.b"}))));
        let all = Wanted::of("cache-end", &form("all=true")).unwrap();
        assert_eq!(all.body, Some(json!({"all": true})));
        assert!(Wanted::of("shutdown", &form("")).is_none());
        assert!(Form::read(b"a=\xff").is_none());
    }
}
