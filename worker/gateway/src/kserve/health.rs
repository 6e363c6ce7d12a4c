//! Whether the server lives and takes requests. Answers have no body, as in the reference.

use axum::extract::State;
use axum::http::StatusCode;
use shardrun_wire::EngineState;

use crate::GatewayState;
use crate::error::ApiError;
use crate::served::Served;

/// 200 unless the engine has ended.
pub(super) async fn live(State(state): State<GatewayState>) -> StatusCode {
    ok_if(state.engine().state() != EngineState::Stopped)
}

/// 200 when the model is loaded and requests are taken.
pub(super) async fn ready(State(state): State<GatewayState>) -> StatusCode {
    ok_if(state.ready().is_ok())
}

/// As [`ready`], for a model; 400 also for one that there is not.
pub(super) async fn model_ready(
    State(state): State<GatewayState>,
    model: Result<Served, ApiError>,
) -> StatusCode {
    ok_if(model.is_ok() && state.ready().is_ok())
}

fn ok_if(holds: bool) -> StatusCode {
    if holds { StatusCode::OK } else { StatusCode::BAD_REQUEST }
}
