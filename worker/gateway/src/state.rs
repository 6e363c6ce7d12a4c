//! What all requests share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use shardrun_metrics::MetricsPage;
use shardrun_wire::{EngineClient, EngineLimits, EngineState, Refused, RequestId};
use tokio::sync::Semaphore;

use crate::TextModel;
use crate::error::ApiError;
use crate::named::NamedRequests;

/// Gives the text of `/metrics`; may block for some milliseconds.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// What a gateway is put together from.
pub struct GatewayParts {
    /// Runs the requests; says that it is loading until it is ready.
    pub engine: Arc<dyn EngineClient>,
    /// Where requests are counted.
    pub page: Arc<MetricsPage>,
    /// The text of `/metrics`.
    pub scrape: Scrape,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
}

/// What all requests share; clones are one state.
#[derive(Clone)]
pub struct GatewayState(Arc<Shared>);

struct Shared {
    parts: GatewayParts,
    text: OnceLock<Arc<dyn TextModel>>,
    last_id: AtomicU64,
    named: NamedRequests,
    /// Long prompts are tokenised one at a time: the cores belong to the ranks.
    long_prompts: Semaphore,
}

impl fmt::Debug for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayState")
            .field("state", &self.engine().state())
            .finish_non_exhaustive()
    }
}

/// What takes requests once the model is there.
pub(crate) struct Ready {
    pub(crate) text: Arc<dyn TextModel>,
    pub(crate) limits: EngineLimits,
}

impl GatewayState {
    /// A gateway whose model is still loading.
    #[must_use]
    pub fn new(parts: GatewayParts) -> Self {
        Self(Arc::new(Shared {
            parts,
            text: OnceLock::new(),
            last_id: AtomicU64::new(0),
            named: NamedRequests::default(),
            long_prompts: Semaphore::new(1),
        }))
    }

    /// Takes the model's text side, once it has been read. The gateway is ready when the engine is,
    /// too. A second one is ignored.
    pub fn set_text(&self, text: Arc<dyn TextModel>) {
        let _ = self.0.text.set(text);
    }

    /// What a request needs.
    ///
    /// # Errors
    /// If the engine is not ready, with what it does instead.
    pub(crate) fn ready(&self) -> Result<Ready, ApiError> {
        match self.engine().state() {
            EngineState::Ready => {}
            EngineState::Loading => return Err(Refused::Loading.into()),
            EngineState::Draining => return Err(Refused::Draining.into()),
            EngineState::Stopped => return Err(ApiError::EngineStopped),
        }
        let text = self.0.text.get().cloned().ok_or(Refused::Loading)?;
        let limits = self.engine().limits().ok_or(Refused::Loading)?;
        Ok(Ready { text, limits })
    }

    pub(crate) fn engine(&self) -> &Arc<dyn EngineClient> {
        &self.0.parts.engine
    }

    pub(crate) fn page(&self) -> &Arc<MetricsPage> {
        &self.0.parts.page
    }

    pub(crate) fn scrape(&self) -> Scrape {
        self.0.parts.scrape.clone()
    }

    pub(crate) fn max_body_bytes(&self) -> usize {
        self.0.parts.max_body_bytes
    }

    pub(crate) fn long_prompts(&self) -> &Semaphore {
        &self.0.long_prompts
    }

    pub(crate) fn named(&self) -> &NamedRequests {
        &self.0.named
    }

    /// A request id that no request had before.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
