//! Tenants: which paths show one tenant alone, and how a request is held to it.

use axum::extract::{Query, Request};
use axum::http::{StatusCode, Uri};

use super::may_change;
use crate::admin::openapi::routes;
use crate::admin::problem::Problem;

/// Pages that a tenant's token opens: they show what the paths of the API that it opens answer to the same viewer, and are
/// asked for with the same parameter.
const PAGES: &[&str] = &["/", "/queries", "/queries/{}", "/findings", "/findings/{}", "/tenants/{}", "/connections"];

/// Whether a tenant's token opens this path.
fn is_of_tenants(path: &str) -> bool {
    routes::is_of_tenants(path) || PAGES.iter().any(|known| routes::fits(known, path))
}

/// Holds a request to one tenant: it looks at what can be shown of one alone, and its `tenant` is that one.
pub(super) fn confine(request: &mut Request, tenant: &str) -> Result<(), Problem> {
    let closed = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    if may_change(request.method()) {
        return closed("a tenant's token changes nothing");
    }
    if !is_of_tenants(request.uri().path()) {
        return closed("a tenant's token does not open this path; docs/admin-api.md lists those that it opens");
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
pub(super) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
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
            "/api/v1/audit",
            "/api/v1/log-level",
            "/api/v1/queries/snapshot",
            "/api/v1/tenants/",
            "/api/v1/plans/",
            "/api/v1/plans/a/b",
            "//api/v1/tenants",
            "/config",
            "/queries/",
        ] {
            assert!(!is_of_tenants(closed), "{closed}");
        }
    }
}
