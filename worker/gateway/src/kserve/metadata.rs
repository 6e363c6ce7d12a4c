//! What the server and its models say about themselves.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::GatewayState;
use crate::generate::{Tensor, input_tensors, output_tensors};
use crate::served::{Target, VERSION};

#[derive(Serialize)]
pub(super) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    /// Extensions of the KServe protocol; `generate` is not listed in the reference either.
    extensions: &'static [&'static str],
}

pub(super) async fn server(State(state): State<GatewayState>) -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "shardrun",
        version: env!("CARGO_PKG_VERSION"),
        extensions: match state.repository() {
            Some(_) => &["model_repository", "model_repository(unload_dependents)"],
            None => &[],
        },
    })
}

#[derive(Serialize)]
pub(super) struct ModelMetadata {
    name: String,
    versions: [&'static str; 1],
    platform: &'static str,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

pub(super) async fn model(Target { served, name, .. }: Target) -> Json<ModelMetadata> {
    Json(ModelMetadata {
        name,
        versions: [VERSION],
        platform: served.platform(),
        inputs: input_tensors(served).collect(),
        outputs: output_tensors(served).collect(),
    })
}
