//! How a gateway reaches an engine, whatever lies between them.

use thiserror::Error;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{Output, Request, RequestId};

/// The outputs of one request, in order; ends after the output that has a finish reason.
///
/// Unbounded in type, but never holds more than the request's `max_tokens` and one: a slow reader
/// keeps its own tokens waiting and nobody else's.
pub type OutputStream = UnboundedReceiver<Output>;

/// Hands requests to an engine.
pub trait EngineClient: Send + Sync + 'static {
    /// Queues `request`.
    ///
    /// # Errors
    /// [`Refused`] if the engine will never run it; nothing was queued then.
    fn submit(&self, request: Request) -> Result<OutputStream, Refused>;

    /// Ends a request early: its blocks are free in the next iteration. Unknown ids are ignored,
    /// since the request may just have ended.
    fn cancel(&self, id: RequestId);

    /// Whether the engine takes requests now.
    fn state(&self) -> EngineState;

    /// What the engine can hold; `None` while it loads.
    fn limits(&self) -> Option<EngineLimits>;
}

/// The stages of an engine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// Weights are being read.
    Loading,
    /// Requests are taken.
    Ready,
    /// Running requests finish, new ones are refused.
    Draining,
    /// The engine ended.
    Stopped,
}

/// What one engine can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Prompt and generated tokens of one request.
    pub max_seq_len: u32,
    /// Tokens of the whole KV cache, shared by the requests that run.
    pub kv_cache_tokens: u32,
    /// Requests waiting to start.
    pub max_queue_size: u32,
    /// Size of the vocabulary: token ids are below it.
    pub vocab_size: u32,
}

/// Why an engine will not run a request.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait already.
    #[error("Maximum queue size of {limit} has been reached, please try again later")]
    QueueFull {
        /// The deployment's `max_queue_size`.
        limit: u32,
    },
    /// Prompt and output together exceed the sequence length.
    #[error(
        "the prompt has {prompt} tokens and max_tokens is {max_tokens}: together {over} more than the context of {limit} tokens",
        over = u64::from(*prompt) + u64::from(*max_tokens) - u64::from(*limit)
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// The engine's `max_seq_len`.
        limit: u32,
    },
    /// The request needs more KV cache than there is.
    #[error(
        "the prompt has {prompt} tokens and max_tokens is {max_tokens}: together {over} more than the whole KV cache of {limit} tokens (kv_cache.max_tokens)",
        over = u64::from(*prompt) + u64::from(*max_tokens) - u64::from(*limit)
    )]
    CacheTooSmall {
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// Tokens of the whole cache.
        limit: u32,
    },
    /// A value that no engine can run; the gateway should have refused it.
    #[error("{field} is {value}: {allowed}")]
    Invalid {
        /// Which part of the request.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Not ready yet.
    #[error("the model is loading, please try again later")]
    Loading,
    /// Ending.
    #[error("the server is shutting down")]
    Draining,
}
