//! What the server and its models say about themselves.

use axum::Json;
use serde::Serialize;

use crate::generate::{Tensor, input_tensors, output_tensors};
use crate::served::{Served, VERSION};

#[derive(Serialize)]
pub(super) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    /// Extensions of the KServe protocol; `generate` is not listed in the reference either.
    extensions: [&'static str; 0],
}

pub(super) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata { name: "shardrun", version: env!("CARGO_PKG_VERSION"), extensions: [] })
}

#[derive(Serialize)]
pub(super) struct ModelMetadata {
    name: &'static str,
    versions: [&'static str; 1],
    platform: &'static str,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

pub(super) async fn model(served: Served) -> Json<ModelMetadata> {
    Json(ModelMetadata {
        name: served.name(),
        versions: [VERSION],
        platform: served.platform(),
        inputs: input_tensors(served).collect(),
        outputs: output_tensors(served).collect(),
    })
}
