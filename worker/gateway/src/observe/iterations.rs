//! `/iteration_stats`: what each iteration did. Reading takes the records away.

use axum::Json;
use axum::extract::State;
use shardrun_wire::IterationStats;

use crate::GatewayState;

/// The iterations since the last call, oldest first.
pub(super) async fn iteration_stats(
    State(state): State<GatewayState>,
) -> Json<Vec<IterationStats>> {
    Json(state.engine().take_iterations().await)
}
