//! `/metrics`: counters and gauges as Prometheus reads them.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::GatewayState;
use crate::error::ApiError;

pub(super) async fn metrics(
    State(state): State<GatewayState>,
) -> Result<impl IntoResponse, ApiError> {
    let scrape = state.scrape();
    let text =
        tokio::task::spawn_blocking(move || scrape()).await.map_err(|_| ApiError::ScrapeFailed)?;
    Ok(([(CONTENT_TYPE, shardrun_metrics::CONTENT_TYPE)], text))
}
