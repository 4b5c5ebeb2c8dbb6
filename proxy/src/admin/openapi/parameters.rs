//! What a request may ask for: the types of parameters, and the check that holds every request to them.

use axum::extract::{FromRequestParts, MatchedPath, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use config::units::{parse_duration, parse_moment};
use serde_json::{Value, json};
use std::time::Duration;

use super::routes::{self, Route};
use crate::admin::problem::Problem;

/// Longest text that is taken as a parameter, in characters.
const MAX_TEXT: usize = 256;
/// Parameters of one request.
const MAX_PARAMETERS: usize = 32;

/// One parameter.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether it is a part of the path.
    pub(crate) in_path: bool,
    /// Its type.
    pub(crate) kind: Kind,
    /// What it does.
    pub(crate) meaning: &'static str,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A whole number in this range.
    Count(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// 16 hexadecimal digits.
    Fingerprint,
    /// A duration such as `10m`.
    Time(&'static Spelling),
    /// A moment of RFC 3339, or whole seconds since 1970.
    Moment,
    /// What `next` of an answer said.
    Cursor,
}

/// Seconds since 1970 up to the year 9999.
const MAX_SECONDS: u64 = 253_402_300_799;
/// A moment in UTC. Others are taken too, with an offset or without a time.
const MOMENT: &str =
    "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?Z$";

/// How a duration is spelled: a whole number with its unit.
#[derive(Debug)]
pub(crate) struct Spelling {
    /// Units, each with the least and the most of it.
    units: &'static [(&'static str, u64, u64)],
    /// The same as a regular expression.
    pattern: &'static str,
    /// An example.
    example: &'static str,
}

/// Up to a minute.
pub(crate) const PATIENCE: &Spelling =
    &Spelling { units: &[("s", 0, 60)], pattern: "^([0-9]|[1-5][0-9]|60)s$", example: "5s" };
/// From a minute to an hour.
pub(crate) const WITHIN_HOUR: &Spelling =
    &Spelling { units: &[("m", 1, 60), ("h", 1, 1)], pattern: "^([1-9]m|[1-5][0-9]m|60m|1h)$", example: "5m" };
/// From ten seconds to two days.
pub(crate) const PERIOD: &Spelling = &Spelling {
    units: &[("s", 10, 99_999), ("m", 1, 999), ("h", 1, 48)],
    pattern: "^([1-9][0-9]{1,4}s|[1-9][0-9]{0,2}m|([1-9]|[1-3][0-9]|4[0-8])h)$",
    example: "10m",
};

impl Spelling {
    fn takes(&self, value: &str) -> bool {
        let end = value.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = value.split_at_checked(end).unwrap_or_default();
        let plain = number == "0" || !number.starts_with('0');
        let mut units = self.units.iter().filter(|(known, ..)| *known == unit);
        plain && units.any(|(_, least, most)| number.parse().is_ok_and(|n: u64| (*least..=*most).contains(&n)))
    }

    fn words(&self) -> String {
        let unit = |(unit, least, most): &(&str, u64, u64)| format!("{least}{unit} to {most}{unit}");
        self.units.iter().map(unit).collect::<Vec<_>>().join(", or ")
    }
}

impl Kind {
    /// As OpenAPI describes it.
    pub(crate) fn schema(self) -> Value {
        match self {
            Self::Text => json!({"type": "string", "maxLength": MAX_TEXT}),
            Self::Count(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Fingerprint => json!({"type": "string", "pattern": "^[0-9a-fA-F]{16}$"}),
            Self::Time(spelling) => {
                json!({"type": "string", "pattern": spelling.pattern, "examples": [spelling.example]})
            }
            Self::Moment => json!({"anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_SECONDS},
                {"type": "string", "pattern": MOMENT},
            ]}),
            Self::Cursor => json!({"type": "string", "pattern": "^([0-9a-f]{2}){1,1024}$"}),
        }
    }

    /// An example that every handler takes.
    #[cfg(test)]
    pub(crate) fn example(self) -> String {
        match self {
            Self::Text => "acme".to_owned(),
            Self::Count(least, _) => least.to_string(),
            Self::Flag => "true".to_owned(),
            Self::Word(words) => words.first().copied().unwrap_or_default().to_owned(),
            Self::Fingerprint => "0000000000000001".to_owned(),
            Self::Time(spelling) => spelling.example.to_owned(),
            Self::Moment => "2026-01-01T00:00:00Z".to_owned(),
            Self::Cursor => "00".to_owned(),
        }
    }

    /// Why this value is none of the kind, if it is not.
    fn objection(self, value: &str) -> Option<String> {
        let wrong = |wanted: String| Some(format!("must be {wanted}"));
        match self {
            Self::Text if value.chars().count() > MAX_TEXT => wrong(format!("at most {MAX_TEXT} characters long")),
            Self::Text => None,
            Self::Count(least, most) => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse::<u64>().ok().filter(|number| digits && (least..=most).contains(number));
                if number.is_some() { None } else { wrong(format!("between {least} and {most}, not {}", cut(value))) }
            }
            Self::Flag if ["true", "false"].contains(&value) => None,
            Self::Flag => wrong("true or false".to_owned()),
            Self::Word(words) if words.contains(&value) => None,
            Self::Word(words) => wrong(format!("one of {}", words.join(", "))),
            Self::Fingerprint => match config::Mute::parse_fingerprint(value) {
                Ok(_) => None,
                Err(_) => wrong("a fingerprint: 16 hexadecimal digits, as `/api/v1/queries` shows it".to_owned()),
            },
            Self::Time(spelling) if spelling.takes(value) => None,
            Self::Time(spelling) => wrong(format!("a duration such as {}: {}", spelling.example, spelling.words())),
            Self::Moment => match moment_us(value) {
                Some(_) => None,
                None => wrong("a moment such as 2026-01-01T00:00:00Z, or seconds since 1970".to_owned()),
            },
            Self::Cursor => {
                let even = !value.is_empty() && value.len().is_multiple_of(2) && value.len() <= 2048;
                let hex = value.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
                if even && hex { None } else { wrong("what `next` of an answer said".to_owned()) }
            }
        }
    }
}

/// A moment in µs since 1970.
fn moment_us(value: &str) -> Option<u64> {
    let seconds = value.parse::<u64>().ok().filter(|seconds| *seconds <= MAX_SECONDS);
    seconds.map(|seconds| seconds * 1_000_000).or_else(|| parse_moment(value).ok())
}

fn cut(value: &str) -> String {
    value.chars().take(40).collect()
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// What a request asks for, each parameter once and of its type.
#[derive(Debug, Default, Clone)]
pub(in crate::admin) struct Asked {
    given: Vec<(String, String)>,
}

impl Asked {
    /// Reads a query as this route takes it.
    pub(in crate::admin) fn read(route: &Route, uri: &Uri) -> Result<Self, Problem> {
        let Ok(Query(given)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(bad("the parameters cannot be read".to_owned()));
        };
        if given.len() > MAX_PARAMETERS {
            return Err(bad(format!("more than {MAX_PARAMETERS} parameters")));
        }
        for (place, (name, value)) in given.iter().enumerate() {
            let known = route.parameters().find(|known| !known.in_path && known.name == name);
            let Some(known) = known else { return Err(bad(unknown(route, name))) };
            if given.iter().take(place).any(|(other, _)| other == name) {
                return Err(bad(format!("`{name}` is given twice")));
            }
            if let Some(sentence) = known.kind.objection(value) {
                return Err(bad(format!("`{name}` {sentence}")));
            }
        }
        Ok(Self { given })
    }

    /// A parameter's text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A whole number.
    pub(crate) fn count(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }

    /// Whether something is asked for.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// A duration.
    pub(crate) fn time(&self, name: &str) -> Option<Duration> {
        parse_duration(self.text(name)?).ok()
    }

    /// A moment, in µs since 1970.
    pub(crate) fn moment_us(&self, name: &str) -> Option<u64> {
        moment_us(self.text(name)?)
    }

    /// A fingerprint.
    pub(crate) fn fingerprint(&self, name: &str) -> Option<u64> {
        config::Mute::parse_fingerprint(self.text(name)?).ok()
    }

    /// Rows at most.
    pub(crate) fn limit(&self) -> usize {
        self.count("limit").unwrap_or(crate::admin::api::DEFAULT_LIMIT)
    }

    /// Whether a parameter is not given, or is this.
    pub(crate) fn wants(&self, name: &str, value: &str) -> bool {
        self.text(name).is_none_or(|wanted| wanted == value)
    }

    /// What is asked for but for the place in the list: a list is the same list as long as this is.
    pub(crate) fn list(&self) -> String {
        let mut given: Vec<_> = self.given.iter().filter(|(name, _)| !["cursor", "limit"].contains(&&**name)).collect();
        given.sort();
        format!("{given:?}")
    }
}

fn unknown(route: &Route, name: &str) -> String {
    let known: Vec<_> = route.parameters().filter(|known| !known.in_path).map(|known| known.name).collect();
    let name = cut(name);
    match known.as_slice() {
        [] => format!("`{name}`: this path takes no parameters"),
        known => format!("`{name}` is not a parameter of this path; it takes {}", known.join(", ")),
    }
}

fn route_of(matched: Option<&MatchedPath>, method: &Method) -> Option<&'static Route> {
    // What answers GET answers HEAD.
    let method = if method == Method::HEAD { Method::GET } else { method.clone() };
    routes::find(method.as_str(), matched?.as_str())
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match route_of(parts.extensions.get::<MatchedPath>(), &parts.method) {
            Some(route) => Self::read(route, &parts.uri),
            None => Ok(Self::default()),
        }
    }
}

/// Holds each request to what its route takes: parameters of the query and of the path. Here and not in each handler, so
/// that what is described is what is taken.
pub(in crate::admin) async fn check(request: Request, next: Next) -> Response {
    let Some(route) = route_of(request.extensions().get::<MatchedPath>(), request.method()) else {
        return next.run(request).await;
    };
    if let Err(problem) = Asked::read(route, request.uri()) {
        return problem.into_response();
    }
    let (mut parts, body) = request.into_parts();
    if let Err(problem) = check_path(route, &mut parts).await {
        return problem.into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

async fn check_path(route: &Route, parts: &mut Parts) -> Result<(), Problem> {
    if !route.parameters().any(|known| known.in_path) {
        return Ok(());
    }
    let Ok(given) = RawPathParams::from_request_parts(parts, &()).await else {
        return Err(bad("the path cannot be read".to_owned()));
    };
    for (name, value) in &given {
        let known = route.parameters().find(|known| known.in_path && known.name == name);
        if let Some(sentence) = known.and_then(|known| known.kind.objection(value)) {
            return Err(bad(format!("`{name}` {sentence}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_its_example_and_refuses_what_it_is_not() {
        for (kind, wrong) in [
            (Kind::Count(1, 1_000), &["0", "1001", "x", "", "-1", "+1", "1.0", "99999999999999999999"][..]),
            (Kind::Flag, &["yes", "", "1", "TRUE"]),
            (Kind::Word(&["a", "b"]), &["c", ""]),
            (Kind::Fingerprint, &["1", "", "00000000000000g1", "+000000000000001"]),
            (
                Kind::Time(PERIOD),
                &["9s", "49h", "x", "", "10", "0", "010s", "1h1m", "1.5m", "1d", "99999999999999999999s"],
            ),
            (Kind::Time(PATIENCE), &["61s", "1m", "0", "-1s", "s"]),
            (Kind::Moment, &["yesterday", "", "-1", "999999999999999"]),
            (Kind::Cursor, &["", "0", "zz", "AA"]),
        ] {
            assert_eq!(kind.objection(&kind.example()), None, "{kind:?}");
            for wrong in wrong {
                assert!(kind.objection(wrong).is_some(), "{kind:?} {wrong:?}");
            }
        }
        assert!(Kind::Text.objection(&"é".repeat(256)).is_none() && Kind::Text.objection(&"é".repeat(257)).is_some());
    }

    #[test]
    fn a_query_is_held_to_its_route() {
        let route = routes::find("GET", "/api/v1/queries").unwrap();
        let read = |query: &str| Asked::read(route, &format!("/api/v1/queries?{query}").parse().unwrap());
        let asked = read("tenant=a%26b&limit=7&series=true&period=10m").unwrap();
        assert_eq!((asked.text("tenant"), asked.limit()), (Some("a&b"), 7));
        assert_eq!((asked.flag("series"), asked.time("period")), (true, Some(Duration::from_secs(600))));
        assert!(asked.wants("tenant", "a&b") && !asked.wants("tenant", "c") && asked.wants("class", "x"));
        for wrong in ["tenant=a&tenant=a", "colour=red", "limit=0", "limit=", "series=1", "%74enants=a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read("limit=1&cursor=00&tenant=a").unwrap().list(), read("tenant=a&limit=9").unwrap().list());
        assert_ne!(read("tenant=a").unwrap().list(), read("tenant=b").unwrap().list());
    }
}
