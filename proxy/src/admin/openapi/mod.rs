//! The API as OpenAPI 3.1 describes it: made of the table of [`routes`] and of [`schemas`].

pub(super) mod parameters;
pub(super) mod routes;
mod schemas;
#[cfg(test)]
pub(super) mod tests;

use axum::Json;
use serde_json::{Map, Value, json};

use parameters::Parameter;
use routes::{Answer, ROUTES, Route, Who};
use schemas::reference;

/// `/api/v1/openapi.json`.
pub(super) async fn document() -> Json<Value> {
    Json(built())
}

/// The whole document.
pub(super) fn built() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pgweir's admin port",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Fields may be added within v1; a field's name, unit and meaning do not change.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas::components(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Needed where the configuration has one."},
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut shown = json!({
        "operationId": route.id,
        "summary": route.summary,
        "x-role": match route.who {
            Who::Anybody => "anybody",
            Who::Tenant => "tenant",
            Who::Viewer => "viewer",
            Who::Operator => "operator",
        },
        "parameters": route.parameters().map(parameter).chain(intent(route)).collect::<Vec<_>>(),
        "responses": responses(route),
    });
    if let Some(shown) = shown.as_object_mut() {
        if let Some(body) = route.body {
            let content = json!({"application/json": {"schema": reference(body)}});
            shown.insert("requestBody".to_owned(), json!({"required": route.needs_body(), "content": content}));
        }
        if route.who == Who::Anybody {
            shown.insert("security".to_owned(), json!([]));
        }
    }
    shown
}

/// What a request that is more than a look carries where no token is set.
fn intent(route: &Route) -> Option<Value> {
    (route.method != "GET").then(|| {
        json!({
            "name": "X-Requested-With",
            "in": "header",
            "required": false,
            "description": "Any value; needed where no token is set, for a page of another site cannot send it.",
            "schema": {"type": "string", "pattern": "^[a-z]{1,20}$"},
        })
    })
}

fn parameter(parameter: &'static Parameter) -> Value {
    json!({
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "required": parameter.in_path,
        "description": parameter.meaning,
        "schema": parameter.kind.schema(),
    })
}

/// Status codes that any route may answer, with when it does.
const EVERYWHERE: &[(u16, &str)] = &[
    (400, "A parameter or the body is not as described"),
    (401, "No token, or one that is not known"),
    (403, "The token does not open this, or the request lacks what shows that it is meant"),
    (413, "A body where none is taken, or too long a one"),
    (421, "Without a token, the name asked for is not this machine's"),
    (429, "Too many wrong tokens from there"),
    (500, "The proxy has failed"),
];

fn responses(route: &Route) -> Value {
    let problem = |meaning: &str| {
        let content = json!({"application/problem+json": {"schema": reference("Problem")}});
        json!({"description": meaning, "content": content})
    };
    let mut all: Map<String, Value> = Map::new();
    match route.answer {
        Answer::Json(status, name) => {
            let content = json!({"application/json": {"schema": reference(name)}});
            all.insert(status.to_string(), json!({"description": "Done", "content": content}));
            if route.method == "GET" && route.who != Who::Anybody {
                all.insert("304".to_owned(), json!({"description": "What `If-None-Match` names is still so"}));
            }
        }
        Answer::Other(types) => {
            let content: Map<String, Value> = types.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect();
            all.insert("200".to_owned(), json!({"description": "Done", "content": content}));
        }
        Answer::Nothing => drop(all.insert("204".to_owned(), json!({"description": "Done"}))),
    }
    let everywhere = EVERYWHERE.iter().filter(|_| route.who != Who::Anybody);
    let guarded = everywhere.chain(EVERYWHERE.iter().filter(|(code, _)| route.who == Who::Anybody && *code == 413));
    for (code, meaning) in guarded {
        all.insert(code.to_string(), problem(meaning));
    }
    if route.body.is_some() {
        for (code, meaning) in [(408, "The body did not come in time"), (415, "The body is not JSON")] {
            all.insert(code.to_string(), problem(meaning));
        }
    }
    for code in route.problems {
        let meaning = match code {
            404 => "There is no such thing",
            409 => "It cannot be done as things are",
            422 => "The configuration is refused",
            _ => "It cannot be told now; try again",
        };
        // Readiness says why it is not.
        let ready = json!({"description": meaning, "content": {"application/json": {"schema": reference("Ready")}}});
        all.insert(code.to_string(), if route.id == "ready" { ready } else { problem(meaning) });
    }
    all.into()
}
