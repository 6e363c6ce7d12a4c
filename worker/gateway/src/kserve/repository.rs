//! The model repository: which models there are, and loading and unloading them.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use shardrun_wire::EngineState;

use crate::error::ApiError;
use crate::generate::shown;
use crate::served::VERSION;
use crate::{GatewayState, IndexEntry, ModelState};

/// A model under one of its names.
#[derive(Serialize)]
pub(super) struct Entry {
    name: String,
    version: &'static str,
    state: &'static str,
    reason: String,
}

/// All models, or those that are ready if the body says `{"ready": true}`. A model that is served has
/// an entry for each of its names.
pub(super) async fn index(
    State(state): State<GatewayState>,
    request: Request,
) -> Result<Json<Vec<Entry>>, ApiError> {
    let body = object(&state, request).await?;
    let only_ready = flag(&body, "ready")?;
    let models = match state.repository() {
        Some(repository) => repository.index().await,
        None => served(&state),
    };
    let mut entries = Vec::new();
    for IndexEntry { name, state: its, reason } in models {
        if only_ready && its != ModelState::Ready {
            continue;
        }
        let names = state.models().get(&name).map(|(model, _)| model.names());
        entries.extend(names.unwrap_or_else(|| vec![name]).into_iter().map(|name| Entry {
            name,
            version: VERSION,
            state: its.name(),
            reason: reason.clone(),
        }));
    }
    Ok(Json(entries))
}

/// The models that are served, where nobody else knows them.
fn served(state: &GatewayState) -> Vec<IndexEntry> {
    let entry = |(name, model): (String, std::sync::Arc<crate::models::Model>)| {
        let (state, reason) = match model.state() {
            EngineState::Ready => (ModelState::Ready, None),
            EngineState::Loading => (ModelState::Loading, None),
            EngineState::Draining => (ModelState::Unloading, None),
            EngineState::Stopped => {
                let why = model.engine().why_ended();
                (ModelState::Unavailable, why.or_else(|| Some("the engine has ended".to_owned())))
            }
        };
        IndexEntry { name, state, reason: reason.unwrap_or_default() }
    };
    state.models().all().into_iter().map(entry).collect()
}

/// Loads the model of this name; answers when it takes requests.
pub(super) async fn load(
    State(state): State<GatewayState>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    const WHY: &str = "a model's configuration and files are those of the deployment file";
    let model = named(&state, path, &request)?;
    // There is none that could be taken.
    if let Some((name, _)) = parameters(object(&state, request).await?)?.into_iter().next() {
        let why = match name.as_str() {
            "config" => WHY,
            file if file.starts_with("file:") => WHY,
            _ => "there is none of this name",
        };
        return Err(ApiError::RepositoryParameter { action: "load", name: shown(&name), why });
    }
    change(state, Action::Load, model).await
}

/// Unloads the model of this name; answers when it is gone.
pub(super) async fn unload(
    State(state): State<GatewayState>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let model = named(&state, path, &request)?;
    for (name, value) in parameters(object(&state, request).await?)? {
        let why = match (name.as_str(), value) {
            // All names of a model go at once, and nothing else depends on it.
            ("unload_dependents", Value::Bool(_)) => continue,
            ("unload_dependents", _) => "it must be true or false",
            _ => "there is none of this name",
        };
        return Err(ApiError::RepositoryParameter { action: "unload", name: shown(&name), why });
    }
    change(state, Action::Unload, model).await
}

/// What the path names: any of a model's names will do, as long as it is served.
fn named(
    state: &GatewayState,
    path: Result<Path<String>, PathRejection>,
    request: &Request,
) -> Result<String, ApiError> {
    let Ok(Path(name)) = path else {
        return Err(ApiError::UnknownPath { path: request.uri().path().to_owned() });
    };
    Ok(state.models().own_name(&name).unwrap_or(name))
}

#[derive(Clone, Copy)]
enum Action {
    Load,
    Unload,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
        }
    }
}

async fn change(
    state: GatewayState,
    action: Action,
    model: String,
) -> Result<StatusCode, ApiError> {
    let verb = action.name();
    let Some(repository) = state.repository().cloned() else {
        return Err(ApiError::NoRepository { action: verb, model: shown(&model) });
    };
    let name = model.clone();
    // On its own, so that a client that leaves doesn't stop it half-way.
    let done = tokio::spawn(async move {
        match action {
            Action::Load => repository.load(&name).await,
            Action::Unload => repository.unload(&name).await,
        }
    });
    let model = shown(&model);
    match done.await {
        Ok(Ok(())) => Ok(StatusCode::OK),
        Ok(Err(source)) => Err(ApiError::Repository { action: verb, model, source }),
        Err(_) => Err(ApiError::RepositoryPanicked { action: verb, model }),
    }
}

/// The body's object; empty if there is no body.
async fn object(state: &GatewayState, request: Request) -> Result<Map<String, Value>, ApiError> {
    let body = state.bodies().read(request).await?;
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(&body).map_err(ApiError::BadJson)? {
        Value::Object(object) => Ok(object),
        other => Err(ApiError::NotAnObject { kind: kind(&other) }),
    }
}

fn parameters(mut body: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    match body.remove("parameters") {
        None => Ok(Map::new()),
        Some(Value::Object(parameters)) => Ok(parameters),
        Some(other) => Err(ApiError::NotParameters { kind: kind(&other) }),
    }
}

fn flag(body: &Map<String, Value>, field: &'static str) -> Result<bool, ApiError> {
    match body.get(field) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            let (value, allowed) = (shown(&other.to_string()), "true or false".to_owned());
            Err(ApiError::Invalid { field, value, allowed })
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
