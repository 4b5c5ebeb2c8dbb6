//! Who may see what: the one place where a request is let in, and where one that sees a tenant alone is held to it.
//!
//! | request | sees |
//! |---|---|
//! | with `admin.token`, or without any where none is set | everything |
//! | with a token of `[admin.tenant_token]` | GET of [`OF_TENANTS`], with `tenant` set to its own |
//! | anything else | 401 |
//!
//! A path is closed to tenants unless it is listed: one that is added later shows nothing of others by mistake.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use config::Admin;
use subtle::{Choice, ConstantTimeEq as _};

mod viewer;

pub(crate) use viewer::{Role, Viewer};

use super::AdminContext;
use super::problem::Problem;

/// What a page of another site cannot add to a request without asking first (CORS), which is never granted here.
const INTENT: &str = "x-requested-with";

/// Paths that a tenant's token opens; each takes the parameter `tenant`. `*` stands for one segment.
const OF_TENANTS: &[&str] = &[
    "/api/v1/queries",
    "/api/v1/queries/*/history",
    "/api/v1/history",
    "/api/v1/plans",
    "/api/v1/plans/*",
    "/api/v1/findings",
    "/api/v1/findings/export",
    "/api/v1/tenants",
    "/api/v1/clients",
    "/api/v1/untracked",
];

/// Lets a request in that carries a token. Without a token the port is bound to loopback, where a browser on the
/// same machine could be led to it by a foreign page whose host name resolves to loopback: such a name is refused.
///
/// The same page may send a request to the address itself, and need not see the answer to have changed something. A
/// request that changes something therefore has to carry [`INTENT`] where no token is asked for. This is the one place
/// where that is decided: a route for POST needs nothing of its own.
///
/// A request that has its viewer already is one of our own making, for a page that shows what it answers.
pub(super) async fn admit(State(context): State<Arc<AdminContext>>, mut request: Request, next: Next) -> Response {
    let viewer = match request.extensions().get::<Viewer>().cloned() {
        Some(viewer) => Ok(viewer),
        None => who(&context, &request),
    };
    let admitted = viewer.and_then(|viewer| {
        match viewer.tenant() {
            Some(tenant) => confine(&mut request, tenant)?,
            None if may_change(request.method()) && !viewer.may_act() => {
                return Err(Problem::new(StatusCode::FORBIDDEN, "a viewer's token changes nothing"));
            }
            None => {}
        }
        request.extensions_mut().insert(viewer);
        Ok(())
    });
    match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Whose request it is.
fn who(context: &AdminContext, request: &Request) -> Result<Viewer, Problem> {
    let settings = context.state.settings();
    match settings.admin.as_ref().and_then(|admin| Some((admin, admin.token.as_ref()?))) {
        Some((admin, token)) => holder(request.headers(), admin, token.reveal()).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "send the admin port's token as `Authorization: Bearer …`")
        }),
        None if !names_this_machine(request.headers()) => {
            Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "without a token, ask for localhost or an address"))
        }
        None if may_change(request.method()) && !request.headers().contains_key(INTENT) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "without a token, a request that changes something needs the header `X-Requested-With`, with any value",
        )),
        None => Ok(Viewer::new("local", Role::Operator)),
    }
}

/// Holds a request to one tenant: it looks at what can be shown of one alone, and its `tenant` is that one.
fn confine(request: &mut Request, tenant: &str) -> Result<(), Problem> {
    let closed = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    if may_change(request.method()) {
        return closed("a tenant's token changes nothing");
    }
    if !is_of_tenants(request.uri().path()) {
        return closed(
            "a tenant's token does not open this path; it opens queries, history, plans, findings, tenants, clients and untracked",
        );
    }
    let Ok(Query(asked)) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the parameters cannot be read"));
    };
    if asked.iter().any(|(name, value)| name == "tenant" && value != tenant) {
        return closed("this token is of another tenant");
    }
    let others = asked.iter().filter(|(name, _)| name != "tenant").map(|(name, value)| (&**name, &**value));
    let query: Vec<String> = others
        .chain([("tenant", tenant)])
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    let confined = format!("{}?{}", request.uri().path(), query.join("&")).parse::<Uri>();
    *request.uri_mut() = confined.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the address cannot be read"))?;
    Ok(())
}

/// Each byte by its number: whatever stands in a name, it ends no parameter.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn is_of_tenants(path: &str) -> bool {
    OF_TENANTS.iter().any(|known| {
        let (mut known, mut asked) = (known.split('/'), path.split('/'));
        loop {
            match (known.next(), asked.next()) {
                (None, None) => return true,
                (Some("*"), Some(one)) if !one.is_empty() => {}
                (Some(known), Some(one)) if known == one => {}
                _ => return false,
            }
        }
    })
}

/// Whether a request by this method is more than a look.
fn may_change(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whose bearer token the request carries. It is compared with every token, and the comparison takes the same time for
/// every wrong one of the same length.
fn holder(headers: &HeaderMap, admin: &Admin, token: &str) -> Option<Viewer> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return None;
    };
    let (scheme, given) = value.as_bytes().split_first_chunk::<7>()?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return None;
    }
    let operator = given.ct_eq(token.as_bytes());
    let tenants: Vec<Choice> =
        admin.tenant_tokens.iter().map(|own| given.ct_eq(own.token.reveal().as_bytes())).collect();
    if bool::from(operator) {
        return Some(Viewer::new("admin.token", Role::Operator));
    }
    let mut own = admin.tenant_tokens.iter().zip(tenants).filter(|(_, same)| bool::from(*same));
    own.next().map(|(own, _)| Viewer::of_tenant(&own.name, &own.tenant))
}

/// Whether the Host header is `localhost` or an address, with or without a port.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined(uri: &str, tenant: &str) -> Result<String, Problem> {
        let mut request = Request::new(axum::body::Body::empty());
        *request.uri_mut() = uri.parse().unwrap();
        confine(&mut request, tenant)?;
        Ok(request.uri().to_string())
    }

    #[test]
    fn a_tenant_is_set_whatever_the_request_says() {
        let acme = "%74%65%6E%61%6E%74=%61";
        assert_eq!(confined("/api/v1/queries", "a").unwrap(), format!("/api/v1/queries?{acme}"));
        assert_eq!(confined("/api/v1/queries?tenant=a&tenant=a", "a").unwrap(), format!("/api/v1/queries?{acme}"));
        assert_eq!(confined("/api/v1/queries?x=1%26", "a").unwrap(), format!("/api/v1/queries?%78=%31%26&{acme}"));
        for other in ["tenant=b", "%74enant=b", "tenant=a&tenant=b", "tenant=", "tenant"] {
            assert!(confined(&format!("/api/v1/queries?{other}"), "a").is_err(), "{other}");
        }
        let odd = confined("/api/v1/history", "a&tenant=b#").unwrap();
        assert!(odd.ends_with("=%61%26%74%65%6E%61%6E%74%3D%62%23"), "{odd}");
    }

    #[test]
    fn paths_are_closed_unless_they_are_listed() {
        for open in ["/api/v1/plans/00d1e8a1b2c3d4e5", "/api/v1/queries/x/history", "/api/v1/tenants"] {
            assert!(is_of_tenants(open), "{open}");
        }
        for closed in [
            "/metrics",
            "/api/v1/queries/snapshot",
            "/api/v1/tenants/",
            "/api/v1/plans/",
            "/api/v1/plans/a/b",
            "//api/v1/tenants",
            "/",
        ] {
            assert!(!is_of_tenants(closed), "{closed}");
        }
    }
}
