//! Which model's engine is asked.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use shardrun_wire::EngineClient;

use crate::GatewayState;
use crate::error::ApiError;
use crate::generate::shown;

/// The engine of the model that `?model=M` names; of the default model, or the only one, without.
pub(super) struct Which(pub(super) Arc<dyn EngineClient>);

impl FromRequestParts<GatewayState> for Which {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        // Names have nothing that would be encoded.
        let query = parts.uri.query().unwrap_or_default();
        let name = query.split('&').find_map(|pair| pair.strip_prefix("model="));
        let model = match name {
            Some(name) => state.models().get(name).map(|(model, _)| model),
            None => state.models().default_one(),
        };
        let unknown = || ApiError::UnknownModel {
            model: shown(name.unwrap_or_default()),
            names: state.models().names(),
        };
        model.map(|model| Self(model.engine().clone())).ok_or_else(unknown)
    }
}
