//! What follows from time and from reloads.

use config::{Admin, AdminRole, Settings};

use super::sessions::SessionId;
use super::*;
use crate::admin::source::{Switches, TenantUse};
use crate::admin::{ClientState, ListenerState, Readiness, StateFuture, StateSource, UpstreamState};
use crate::telemetry::Bounds;
use crate::telemetry::testing::{telemetry_with, tenants};

/// Settings, and nothing else.
struct Only(Mutex<Arc<Settings>>, crate::cache::Caches);

impl StateSource for Only {
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    fn settings(&self) -> Arc<Settings> {
        self.0.lock().unwrap().clone()
    }

    fn caches(&self) -> &crate::cache::Caches {
        &self.1
    }

    fn tenancy(&self, _: bool) -> Vec<TenantUse> {
        Vec::new()
    }

    fn switches(&self, _: &str) -> Switches {
        Switches::default()
    }

    fn clients(&self, _: usize) -> StateFuture<Vec<ClientState>> {
        Box::pin(std::future::pending())
    }

    fn listeners(&self) -> Vec<ListenerState> {
        Vec::new()
    }

    fn upstreams(&self, _: usize) -> StateFuture<Vec<UpstreamState>> {
        Box::pin(std::future::pending())
    }
}

fn settings(tokens: &[(&str, AdminRole, &str)]) -> Arc<Settings> {
    let text = "[databases.a]\nupstream = 'postgres://h'\n";
    let mut settings = Settings::from_toml(text, &config::Overrides::default(), &config::NoSources).unwrap();
    let tokens = tokens.iter().map(|(name, role, token)| AdminToken::new(name, role.clone(), token)).collect();
    settings.admin = Some(Admin { tokens, ..Admin::at(([127, 0, 0, 1], 0).into()) });
    Arc::new(settings)
}

fn gate(tokens: &[(&str, AdminRole, &str)]) -> (Gate, Arc<Only>) {
    let state = Arc::new(Only(Mutex::new(settings(tokens)), crate::cache::testing::caches()));
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let context = AdminContext {
        audit: crate::admin::Audit::new(telemetry.clock),
        telemetry,
        findings: Arc::new(crate::analyst::FindingsStore::new(10)),
        captures: Arc::default(),
        state: state.clone(),
        events: Arc::default(),
    };
    (Gate::new(Arc::new(context)), state)
}

fn request(lines: &[(&str, &str)], address: [u8; 4]) -> Request {
    let mut request = Request::new(Body::empty());
    for (name, value) in lines {
        let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request.extensions_mut().insert(Peer((address, 1).into()));
    request
}

fn begin(gate: &Gate, token: &str, now: Instant) -> String {
    let id = SessionId::new([5; 32]);
    gate.sessions().begin(&id, TokenDigest::of(token.as_bytes()), "proof".into(), now);
    format!("pgweir={}", id.as_str())
}

#[test]
fn a_reload_that_takes_a_token_away_ends_its_sessions_and_one_that_changes_a_role_changes_theirs() {
    let now = Instant::now();
    let (gate, state) = gate(&[("a", AdminRole::Operator, "first"), ("b", AdminRole::Viewer, "second")]);
    let cookie = begin(&gate, "first", now);
    let who = || gate.identify(&request(&[("cookie", &cookie)], [127, 0, 0, 1]), now).map_err(|denial| denial.why);
    let viewer = |role| Viewer::of_token(&AdminToken::new("a", role, "first")).with_csrf("proof".into());
    assert_eq!(who().unwrap(), viewer(AdminRole::Operator));
    *state.0.lock().unwrap() =
        settings(&[("a", AdminRole::Tenant("acme".into()), "first"), ("b", AdminRole::Viewer, "second")]);
    assert_eq!(who().unwrap(), viewer(AdminRole::Tenant("acme".into())));
    *state.0.lock().unwrap() = settings(&[("b", AdminRole::Viewer, "second")]);
    assert_eq!(who().unwrap_err(), "no token");
    *state.0.lock().unwrap() = settings(&[("a", AdminRole::Operator, "first")]);
    assert_eq!(who().unwrap_err(), "no token", "it does not come back");
}

#[test]
fn a_session_ends_with_time() {
    let now = Instant::now();
    let (gate, _) = gate(&[("a", AdminRole::Operator, "first")]);
    let cookie = begin(&gate, "first", now);
    let at = |later: Duration| gate.identify(&request(&[("cookie", &cookie)], [127, 0, 0, 1]), now + later).is_ok();
    assert!(at(sessions::IDLE - Duration::from_secs(1)));
    assert!(at(sessions::IDLE + Duration::from_secs(1)), "it was used meanwhile");
    assert!(!at(sessions::IDLE * 2 + Duration::from_secs(1)));
}

#[test]
fn wrong_tokens_are_counted_by_address_and_forgiven_with_time() {
    let now = Instant::now();
    let (gate, _) = gate(&[("a", AdminRole::Operator, "short")]);
    let ask = |token: &str, address, later| {
        let request = request(&[("authorization", &format!("Bearer {token}"))], address);
        gate.identify(&request, now + Duration::from_secs(later))
            .map(drop)
            .map_err(|denial| denial.problem.status().as_u16())
    };
    let (there, elsewhere) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    for _ in 0..WRONG_TOKENS.failures {
        assert_eq!(ask("guess", there, 0), Err(401));
    }
    assert_eq!((ask("guess", there, 0), ask("short", there, 0)), (Err(429), Err(429)));
    assert_eq!(ask("short", elsewhere, 0), Ok(()), "others are not struck");
    assert_eq!(ask("short", there, 2), Err(429));
    assert_eq!(ask("short", there, 3), Ok(()), "as long as documented");
    // Nobody without an address is let guess for ever, for there is nobody without one.
    assert_eq!(ask("guess", there, 3), Err(401));
    assert_eq!(ask("short", there, 3), Err(429));
}

#[test]
fn a_token_in_the_head_wins_over_a_cookie_and_two_are_none() {
    let now = Instant::now();
    let (gate, _) = gate(&[("a", AdminRole::Operator, "first"), ("b", AdminRole::Viewer, "second")]);
    let cookie = begin(&gate, "first", now);
    let who = |lines: &[(&str, &str)]| gate.identify(&request(lines, [127, 0, 0, 1]), now).map_err(|denial| denial.why);
    assert_eq!(who(&[("authorization", "bearer second"), ("cookie", &cookie)]).unwrap().name(), "b");
    assert_eq!(who(&[("authorization", "Bearer wrong"), ("cookie", &cookie)]).unwrap_err(), "wrong token");
    let twice = [("authorization", "Bearer second"), ("authorization", "Bearer second")];
    assert_eq!(who(&twice).unwrap_err(), "no bearer token");
    assert_eq!(who(&[("authorization", "Basic second")]).unwrap_err(), "no bearer token");
}
