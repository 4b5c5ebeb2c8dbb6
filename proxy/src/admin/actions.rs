//! What an operator has done to databases, clients and the process: the console's commands over HTTP.
//!
//! Each is done when it is answered, but for a pause that takes longer than `wait`: it goes on, and the answer says so.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::access::Viewer;
use super::api::{Answer, Context};
use super::openapi::parameters::Asked;
use super::problem::Problem;
use super::server::Peer;
use super::source::{Acted, Action, Failed};
use crate::commands::CommandError;

/// How long a pause is waited for unless the request says otherwise.
const PAUSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to leave.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a cancelled statement may take to end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

type Sender = Extension<Peer>;
type By = Extension<Viewer>;

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        let (status, detail) = match failed {
            Failed::Command(CommandError::UnknownDatabase(name)) => {
                (StatusCode::NOT_FOUND, format!("there is no database {name}; GET /api/v1/config lists them"))
            }
            Failed::Command(CommandError::UnknownClient(id)) => {
                (StatusCode::NOT_FOUND, format!("there is no client {id}; GET /api/v1/clients lists them"))
            }
            Failed::Command(CommandError::Suspended) => {
                (StatusCode::CONFLICT, "SUSPEND is in force; POST /api/v1/resume ends it".to_owned())
            }
            Failed::Command(
                error @ (CommandError::Resumed
                | CommandError::WokenUp
                | CommandError::Paused
                | CommandError::StillBusy
                | CommandError::Ending),
            ) => (StatusCode::CONFLICT, error.to_string()),
            Failed::Already => (StatusCode::CONFLICT, "the process is ending already".to_owned()),
            Failed::Impossible => {
                (StatusCode::SERVICE_UNAVAILABLE, "this process takes no commands, or is ending".to_owned())
            }
        };
        Self::new(status, detail)
    }
}

/// What is done to a database, or to all of them.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Resume,
    Reconnect,
    Disable,
    Enable,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Reconnect => "reconnect",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }
}

/// `POST /api/v1/databases/{name}/pause`.
pub(super) async fn pause(context: Context, from: Sender, by: By, Path(name): Path<String>, asked: Asked) -> Answer {
    paused(context, (from, by), Some(name), &asked).await
}

/// `POST /api/v1/pause`.
pub(super) async fn pause_all(context: Context, from: Sender, by: By, asked: Asked) -> Answer {
    paused(context, (from, by), None, &asked).await
}

async fn paused(State(context): Context, who: (Sender, By), database: Option<String>, asked: &Asked) -> Answer {
    let patience = asked.time("wait").unwrap_or(PAUSE_PATIENCE);
    let pausing = context.state.act(Action::Pause(database.clone()));
    let complete = match tokio::time::timeout(patience, pausing).await {
        Ok(done) => done.map(|_| true)?,
        Err(_) => false,
    };
    context.events.soon();
    let (client, by) = told(&who);
    tracing::info!(target: "admin", %client, by, database, complete, "pause carried out");
    Ok(Json(json!({"action": "pause", "database": database, "complete": complete})))
}

/// `POST /api/v1/databases/{name}/resume`.
pub(super) async fn resume(context: Context, from: Sender, by: By, Path(name): Path<String>) -> Answer {
    done(context, (from, by), Verb::Resume, Some(name)).await
}

/// `POST /api/v1/resume`.
pub(super) async fn resume_all(context: Context, from: Sender, by: By) -> Answer {
    done(context, (from, by), Verb::Resume, None).await
}

/// `POST /api/v1/databases/{name}/reconnect`.
pub(super) async fn reconnect(context: Context, from: Sender, by: By, Path(name): Path<String>) -> Answer {
    done(context, (from, by), Verb::Reconnect, Some(name)).await
}

/// `POST /api/v1/reconnect`.
pub(super) async fn reconnect_all(context: Context, from: Sender, by: By) -> Answer {
    done(context, (from, by), Verb::Reconnect, None).await
}

/// `POST /api/v1/databases/{name}/disable`.
pub(super) async fn disable(context: Context, from: Sender, by: By, Path(name): Path<String>) -> Answer {
    done(context, (from, by), Verb::Disable, Some(name)).await
}

/// `POST /api/v1/databases/{name}/enable`.
pub(super) async fn enable(context: Context, from: Sender, by: By, Path(name): Path<String>) -> Answer {
    done(context, (from, by), Verb::Enable, Some(name)).await
}

async fn done(State(context): Context, who: (Sender, By), verb: Verb, database: Option<String>) -> Answer {
    let name = database.clone();
    let action = match verb {
        Verb::Resume => Action::Resume(name),
        Verb::Reconnect => Action::Reconnect(name),
        Verb::Disable => Action::Disable(name.unwrap_or_default()),
        Verb::Enable => Action::Enable(name.unwrap_or_default()),
    };
    context.state.act(action).await?;
    context.events.soon();
    let ((client, by), verb) = (told(&who), verb.word());
    tracing::info!(target: "admin", %client, by, command = verb, database, "command carried out");
    Ok(Json(json!({"action": verb, "database": database})))
}

/// `POST /api/v1/clients/{id}/kill`.
pub(super) async fn kill(State(context): Context, from: Sender, by: By, Path(id): Path<u64>) -> Answer {
    let killing = context.state.act(Action::Kill(id));
    let killed = match tokio::time::timeout(KILL_PATIENCE, killing).await {
        Ok(done) => done.map(|_| true)?,
        // It has been told, and leaves as soon as what it runs has ended.
        Err(_) => false,
    };
    let who = (from, by);
    let (client, by) = told(&who);
    tracing::info!(target: "admin", %client, by, id, killed, "client killed");
    Ok(Json(json!({"client": id, "killed": killed})))
}

/// `POST /api/v1/clients/{id}/cancel`.
pub(super) async fn cancel(State(context): Context, from: Sender, by: By, Path(id): Path<u64>) -> Answer {
    let (was, complete) = match context.state.act(Action::Cancel(id, CANCEL_PATIENCE)).await? {
        Acted::Cancelled(was, complete) => (was, complete),
        Acted::Done => ("active", true),
    };
    if !["active", "waiting"].contains(&was) {
        let detail = format!("client {id} runs nothing that could be cancelled: it is {was}");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let who = (from, by);
    let (client, by) = told(&who);
    tracing::info!(target: "admin", %client, by, id, was, complete, "client's statement cancelled");
    Ok(Json(json!({"client": id, "was": was, "cancelled": true, "complete": complete})))
}

/// `POST /api/v1/drain`.
pub(super) async fn drain(State(context): Context, from: Sender, by: By) -> Result<Response, Problem> {
    context.state.act(Action::Drain).await?;
    context.events.soon();
    let who = (from, by);
    let (client, by) = told(&who);
    tracing::info!(target: "admin", %client, by, "draining: the process ends when its clients are done");
    let answer: Json<Value> = Json(json!({"draining": true}));
    Ok((StatusCode::ACCEPTED, answer).into_response())
}

/// From where, and by whom.
fn told((Extension(Peer(client)), Extension(by)): &(Sender, By)) -> (&std::net::SocketAddr, &str) {
    (client, by.name())
}
