//! `/api/v1/limits`: what tenants and classes of their sessions are held to; and what would hold for a login.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Answer, Context};
use super::body::Sent;
use super::openapi::parameters::Asked;
use super::page::{Place, page};
use super::problem::Problem;
use super::source::TenantUse;
use super::tenants::{hits, in_force};
use crate::explain::{Policy, Wish};

/// Longest name in a wish, and longest statement, in characters.
const MAX_NAME: usize = 256;
const MAX_SQL: usize = 8_192;
/// Options, settings and comments in a wish, each.
const MAX_PAIRS: usize = 64;

/// `/api/v1/limits`.
pub(super) async fn limits(State(context): Context, asked: Asked) -> Answer {
    super::server::aside(move || {
        let mut uses = context.state.tenancy(true);
        uses.retain(|own| asked.wants("tenant", &own.tenant));
        let (total, uses, next) = page(&asked, uses, |own| Place::by_text(format!("{}\0{}", own.tenant, own.class)))?;
        let shown: Vec<Value> = uses.iter().map(held).collect();
        Ok(Json(json!({"total": total, "limits": shown, "next": next})))
    })
    .await?
}

fn held(own: &TenantUse) -> Value {
    json!({
        "tenant": own.tenant,
        "class": Some(&own.class).filter(|class| !class.is_empty()),
        "clients": own.clients,
        "running": own.running,
        "limits": in_force(&own.limits, false),
        "class_limits": in_force(&own.limits, true),
        "limits_reached": own.reached.iter().map(hits).collect::<Map<String, Value>>(),
    })
}

/// What is known of a login, as it is sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    user: String,
    database: Option<String>,
    application: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    comments: BTreeMap<String, String>,
    sni: Option<String>,
    certificate: Option<String>,
    address: Option<IpAddr>,
    sql: Option<String>,
    fingerprint: Option<String>,
}

impl Login {
    fn wish(self) -> Result<Wish, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let names = [
            ("user", Some(&self.user)),
            ("database", self.database.as_ref()),
            ("application", self.application.as_ref()),
            ("sni", self.sni.as_ref()),
            ("certificate", self.certificate.as_ref()),
        ];
        let texts = names.into_iter().map(|(name, text)| (name, text, MAX_NAME));
        for (name, text, most) in texts.chain([("sql", self.sql.as_ref(), MAX_SQL)]) {
            if text.is_some_and(|text| text.chars().count() > most) {
                return Err(bad(format!("`{name}` must be at most {most} characters long")));
            }
        }
        let pairs = |name: &str, given: BTreeMap<String, String>| {
            let long = |text: &String| text.chars().count() > 1_024;
            if given.len() > MAX_PAIRS || given.values().any(long) {
                return Err(bad(format!("`{name}` must have at most {MAX_PAIRS} members of at most 1024 characters")));
            }
            Ok(given.into_iter().collect::<Vec<_>>())
        };
        let fingerprint = self.fingerprint.as_deref().map(super::queries::fingerprint).transpose()?;
        Ok(Wish {
            user: self.user,
            database: self.database,
            application: self.application,
            options: pairs("options", self.options)?,
            settings: pairs("settings", self.settings)?,
            comments: pairs("comments", self.comments)?,
            sni: self.sni,
            certificate: self.certificate,
            address: self.address,
            sql: self.sql,
            fingerprint,
        })
    }
}

/// `POST /api/v1/limits/explain`. It changes nothing: what is asked may be too long for an address, and no log keeps bodies.
pub(super) async fn explain(State(context): Context, Sent(login): Sent<Login>) -> Answer {
    let wish = login.wish()?;
    super::server::aside(move || Json(Policy::of(&wish, &context.state.settings()).json())).await
}
