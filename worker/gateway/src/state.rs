//! What all requests share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardrun_wire::RequestId;
use tokio::sync::Semaphore;

use crate::body::Bodies;
use crate::models::{ModelError, ModelParts, Models};
use crate::{ConnectionLimits, ModelRepository, TextModel};

/// Gives the text of `/metrics`; may block for some milliseconds.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// What a gateway is put together from.
pub struct GatewayParts {
    /// The text of `/metrics`.
    pub scrape: Scrape,
    /// Largest request body, in bytes. All bodies together may take some times as much.
    pub max_body_bytes: usize,
    /// What clients may hold, on each port.
    pub connections: ConnectionLimits,
    /// Loads and unloads models; `None` if the models are what they are.
    pub repository: Option<Arc<dyn ModelRepository>>,
}

/// What all requests share; clones are one state.
#[derive(Clone)]
pub struct GatewayState(Arc<Shared>);

struct Shared {
    parts: GatewayParts,
    bodies: Bodies,
    models: Models,
    last_id: AtomicU64,
    /// Long prompts are tokenised one at a time: the cores belong to the ranks.
    long_prompts: Semaphore,
}

impl fmt::Debug for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayState")
            .field("names", &self.models().names())
            .finish_non_exhaustive()
    }
}

impl GatewayState {
    /// A gateway without models.
    #[must_use]
    pub fn new(parts: GatewayParts) -> Self {
        let bodies = Bodies::new(parts.max_body_bytes, parts.connections.header_timeout);
        Self(Arc::new(Shared {
            parts,
            bodies,
            models: Models::default(),
            last_id: AtomicU64::new(0),
            long_prompts: Semaphore::new(1),
        }))
    }

    /// Serves another model, as `M`, `ensemble_M`, `tensorrt_llm_bls_M` and `tensorrt_llm_M` for a
    /// name of `M`, and the default one as `ensemble`, `tensorrt_llm_bls` and `tensorrt_llm`, too. It
    /// is loading until its text side is there and its engine ready.
    ///
    /// # Errors
    /// [`ModelError`] if the name can't be had, or one of those has another meaning already.
    pub fn add_model(&self, parts: ModelParts) -> Result<(), ModelError> {
        self.0.models.add(parts)
    }

    /// Takes a model's text side, once it has been read. A second one is ignored.
    ///
    /// # Errors
    /// [`ModelError::Unknown`].
    pub fn set_text(&self, name: &str, text: Arc<dyn TextModel>) -> Result<(), ModelError> {
        self.0.models.set_text(name, text)
    }

    /// Puts another engine and text side in the place of those of the model of the same name. At no
    /// moment is there no model: new requests go to the new engine, those that run stay where they are.
    ///
    /// # Errors
    /// [`ModelError`]; all is as before then.
    pub fn replace(&self, parts: ModelParts, text: Arc<dyn TextModel>) -> Result<(), ModelError> {
        self.0.models.replace(parts, text)
    }

    /// Takes a model's names away; requests that run go on, though they can no longer be stopped by
    /// their ids.
    ///
    /// # Errors
    /// [`ModelError::Unknown`].
    pub fn remove_model(&self, name: &str) -> Result<(), ModelError> {
        self.0.models.remove(name)
    }

    pub(crate) fn models(&self) -> &Models {
        &self.0.models
    }

    pub(crate) fn repository(&self) -> Option<&Arc<dyn ModelRepository>> {
        self.0.parts.repository.as_ref()
    }

    pub(crate) fn scrape(&self) -> Scrape {
        self.0.parts.scrape.clone()
    }

    pub(crate) fn connections(&self) -> ConnectionLimits {
        self.0.parts.connections
    }

    pub(crate) fn bodies(&self) -> &Bodies {
        &self.0.bodies
    }

    pub(crate) fn long_prompts(&self) -> &Semaphore {
        &self.0.long_prompts
    }

    /// A request id that no request had before.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
