//! `/iteration_stats`: what each iteration did. Reading takes the records away.

use axum::Json;
use shardrun_wire::IterationStats;

use super::which::Which;

/// The iterations since the last call, oldest first.
pub(super) async fn iteration_stats(Which(engine): Which) -> Json<Vec<IterationStats>> {
    Json(engine.take_iterations().await)
}
