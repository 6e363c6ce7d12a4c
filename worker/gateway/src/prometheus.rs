//! `/metrics`, on a port of its own.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::GatewayState;
use crate::error::ApiError;
use crate::routes::{unknown_path, wrong_method};

pub(crate) fn router(state: GatewayState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

async fn metrics(State(state): State<GatewayState>) -> Result<impl IntoResponse, ApiError> {
    let scrape = state.scrape();
    let text =
        tokio::task::spawn_blocking(move || scrape()).await.map_err(|_| ApiError::ScrapeFailed)?;
    Ok(([(CONTENT_TYPE, shardrun_metrics::CONTENT_TYPE)], text))
}
