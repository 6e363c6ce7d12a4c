//! The models that clients know, by name and version.

use std::fmt;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use shardrun_metrics::Model;

use crate::error::ApiError;

/// The one version of every model.
pub(crate) const VERSION: &str = "1";

/// A model; all of them are the same engine, and know different inputs.
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
    const ALL: [Self; 3] = [Self::Ensemble, Self::Bls, Self::Llm];

    pub(crate) fn model(self) -> Model {
        match self {
            Self::Ensemble => Model::Ensemble,
            Self::Bls => Model::TensorrtLlmBls,
            Self::Llm => Model::TensorrtLlm,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.model().name()
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

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Deserialize)]
struct ModelPath {
    model: String,
    version: Option<String>,
}

/// From `/v2/models/{model}[/versions/{version}]`.
impl<S: Send + Sync> FromRequestParts<S> for Served {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<Path<ModelPath>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Ok(Path(ModelPath { model, version })) = path else {
            return Err(ApiError::UnknownPath { path: parts.uri.path().to_owned() });
        };
        let served = Self::ALL
            .into_iter()
            .find(|served| served.name() == model)
            .ok_or(ApiError::UnknownModel { model })?;
        match version {
            Some(version) if version != VERSION => {
                Err(ApiError::UnknownVersion { model: served.name(), version })
            }
            _ => Ok(served),
        }
    }
}
