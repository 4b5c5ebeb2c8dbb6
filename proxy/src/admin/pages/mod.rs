//! The dashboard: pages for people, drawn on the server from what the API answers. They work without any script; with it
//! they are live and have charts that can be pointed at. `docs/dashboard.md` says what is where.
//!
//! ```text
//! browser ─► page ─► API, in this process, as the same viewer ─► page draws what it said
//! ```
//! Nothing is computed here, and nothing is decided: which tenant a viewer sees and whether it may act is the API's say.

mod actions;
mod assets;
mod audit;
mod cache;
mod config;
mod connections;
mod course;
mod databases;
mod dress;
mod finding;
mod findings;
mod layout;
mod limits;
mod login;
mod overview;
mod parts;
mod plan;
mod pools;
mod queries;
mod query;
mod samples;
mod show;
mod tenant;
mod tenants;
mod visit;

use axum::Router;
use axum::routing::{get, post};

pub(super) use dress::dressed;
pub(super) use login::login_page;
pub(super) use show::text::segment;
pub(super) use visit::Pages;

/// Every page and every form's goal, for those who have been let in.
pub(super) fn router() -> Router<Pages> {
    Router::new()
        .route("/", get(overview::page))
        .route("/queries", get(queries::page))
        .route("/queries/{fingerprint}", get(query::page))
        .route("/findings", get(findings::page))
        .route("/findings/{id}", get(finding::page))
        .route("/tenants", get(tenants::page))
        .route("/tenants/{name}", get(tenant::page))
        .route("/pools", get(pools::page))
        .route("/connections", get(connections::page))
        .route("/cache", get(cache::page))
        .route("/limits", get(limits::page))
        .route("/config", get(config::page))
        .route("/audit", get(audit::page))
        .route("/actions/{name}", post(actions::act))
}

/// What anybody may load.
pub(super) fn open() -> Router {
    Router::new().route("/assets/{file}", get(assets::asset))
}
