//! What clients can name in a path: a model under one of its names, in one version.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use shardrun_metrics::Model as Counted;

use crate::GatewayState;
use crate::error::ApiError;
use crate::models::Model;

/// The one version of every model.
pub(crate) const VERSION: &str = "1";

/// How a model is spoken to; all ways lead to the same engine, and know different inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Text in, text out.
    Ensemble,
    /// Text in, text out.
    Bls,
    /// Tokens in, tokens out.
    Llm,
}

impl Served {
    pub(crate) const ALL: [Self; 3] = [Self::Ensemble, Self::Bls, Self::Llm];

    /// As what its requests are counted.
    pub(crate) fn counted(self) -> Counted {
        match self {
            Self::Ensemble => Counted::Ensemble,
            Self::Bls => Counted::TensorrtLlmBls,
            Self::Llm => Counted::TensorrtLlm,
        }
    }

    /// What the reference's model repository says that runs it.
    pub(crate) fn platform(self) -> &'static str {
        match self {
            Self::Ensemble => "ensemble",
            Self::Bls => "python",
            Self::Llm => "tensorrtllm",
        }
    }
}

/// What a client named.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) model: Arc<Model>,
    pub(crate) served: Served,
    /// As the client said it.
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct ModelPath {
    model: String,
    version: Option<String>,
}

/// From `/v2/models/{model}[/versions/{version}]`.
impl FromRequestParts<GatewayState> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let path: Result<Path<ModelPath>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Ok(Path(ModelPath { model: name, version })) = path else {
            return Err(ApiError::UnknownPath { path: parts.uri.path().to_owned() });
        };
        let Some((model, served)) = state.models().get(&name) else {
            return Err(ApiError::UnknownModel { model: name, names: state.models().names() });
        };
        match version {
            Some(version) if version != VERSION => {
                Err(ApiError::UnknownVersion { model: name, version })
            }
            _ => Ok(Self { model, served, name }),
        }
    }
}
