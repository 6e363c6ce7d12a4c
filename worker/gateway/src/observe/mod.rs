//! What the deployment says about itself, on a port of its own.

mod iterations;
mod kv_events;
mod prometheus;
mod which;

use axum::Router;
use axum::routing::{get, post};

use crate::GatewayState;
use crate::routes::{unknown_path, wrong_method};

pub(crate) fn router(state: GatewayState) -> Router {
    Router::new()
        .route("/metrics", get(prometheus::metrics))
        .route("/iteration_stats", get(iterations::iteration_stats))
        .route("/kv_cache_events", post(kv_events::kv_cache_events))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}
