//! The KServe v2 routes: is it there, is it ready, what does it take, and which models are there.

mod health;
mod metadata;
mod repository;

use axum::Router;
use axum::routing::{get, post};

use crate::GatewayState;
use crate::routes::of_model;

pub(crate) fn router() -> Router<GatewayState> {
    let mut router = Router::new()
        .route("/v2", get(metadata::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload));
    for path in of_model("") {
        router = router.route(&path, get(metadata::model));
    }
    for path in of_model("/ready") {
        router = router.route(&path, get(health::model_ready));
    }
    router
}
