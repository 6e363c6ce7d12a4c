//! The routes of the interface, one line a family.

use axum::Router;
use axum::http::Uri;

use crate::error::ApiError;
use crate::{GatewayState, generate, kserve};

pub(crate) fn router(state: GatewayState) -> Router {
    Router::new()
        .merge(kserve::router())
        .merge(generate::router())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

pub(crate) async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::UnknownPath { path: uri.path().to_owned() }
}

pub(crate) async fn wrong_method() -> ApiError {
    ApiError::MethodNotAllowed
}

/// The two paths of something that a model has: with a version and without.
pub(crate) fn of_model(rest: &str) -> [String; 2] {
    [
        format!("/v2/models/{{model}}{rest}"),
        format!("/v2/models/{{model}}/versions/{{version}}{rest}"),
    ]
}
