//! Whether the server lives and takes requests. Answers have no body, as in the reference.

use axum::extract::State;
use axum::http::StatusCode;
use shardrun_wire::EngineState;

use crate::GatewayState;
use crate::error::ApiError;
use crate::served::Target;

/// 200 unless there are models and the engines of all have ended.
pub(super) async fn live(State(state): State<GatewayState>) -> StatusCode {
    let models = state.models().all();
    let ended = models.iter().all(|(_, model)| model.state() == EngineState::Stopped);
    ok_if(models.is_empty() || !ended)
}

/// 200 when every model is loaded and takes requests, as in the reference.
pub(super) async fn ready(State(state): State<GatewayState>) -> StatusCode {
    ok_if(state.models().all().iter().all(|(_, model)| model.is_ready()))
}

/// As [`ready`], for a model; 400 also for one that there is not.
pub(super) async fn model_ready(target: Result<Target, ApiError>) -> StatusCode {
    ok_if(target.is_ok_and(|target| target.model.is_ready()))
}

fn ok_if(holds: bool) -> StatusCode {
    if holds { StatusCode::OK } else { StatusCode::BAD_REQUEST }
}
