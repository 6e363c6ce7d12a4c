//! How a gateway reaches an engine, whatever lies between them.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{IterationStats, KvEvent, OutputStream, Request, RequestId};

/// Hands requests to an engine.
pub trait EngineClient: Send + Sync + 'static {
    /// Queues `request`. The engine compiles its guide first, which may take some milliseconds.
    ///
    /// # Errors
    /// [`Refused`] if the engine will never run it; nothing was queued then.
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>>;

    /// Ends a request early: its blocks are free in the next iteration. Unknown ids are ignored,
    /// since the request may just have ended.
    fn cancel(&self, id: RequestId);

    /// Whether the engine takes requests now.
    fn state(&self) -> EngineState;

    /// What the engine can hold; `None` while it loads.
    fn limits(&self) -> Option<EngineLimits>;

    /// Why the engine has ended, if it has and knows more than that.
    fn why_ended(&self) -> Option<String> {
        None
    }

    /// The iterations since the last call, oldest first, as far as the engine keeps them. Several
    /// callers share them.
    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>>;

    /// What happened to cached blocks since the last call, oldest first. Several callers share it.
    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>>;
}

/// The stages of an engine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineLimits {
    /// Prompt and generated tokens of one request.
    pub max_seq_len: u32,
    /// Tokens of the whole KV cache, shared by the requests that run.
    pub kv_cache_tokens: u32,
    /// Requests waiting to start.
    pub max_queue_size: u32,
    /// Size of the vocabulary: token ids are below it.
    pub vocab_size: u32,
    /// Sequences in one iteration, so of one request, too.
    pub max_batch_size: u32,
    /// Beams of one request.
    pub max_beam_width: u32,
    /// Rows of logits that one request may ask for, of its prompt and all its sequences.
    pub max_logits_rows: u32,
}

/// Why an engine will not run a request.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
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
        over = (u64::from(*prompt) + u64::from(*max_tokens)).saturating_sub(u64::from(*limit))
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
        "a prompt of {prompt} tokens and {sequences} sequence(s) of max_tokens {max_tokens} need \
         {needed} tokens of KV cache: {over} more than the whole cache of {limit} tokens \
         (kv_cache.max_tokens)",
        over = needed.saturating_sub(u64::from(*limit))
    )]
    CacheTooSmall {
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// Sequences that run side by side: beams, or return sequences.
        sequences: u32,
        /// Tokens of cache that this takes, in whole blocks.
        needed: u64,
        /// Tokens of the whole cache.
        limit: u32,
    },
    /// A value that this engine can't run.
    #[error("{field} is {value}: {allowed}")]
    Invalid {
        /// Which part of the request.
        field: String,
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
    /// The engine can't be reached.
    #[error("the engine can't be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
}
