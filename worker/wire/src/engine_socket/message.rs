//! What the two ends say to each other.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    EngineLimits, EngineState, Finished, IterationStats, KvEvent, LogitsOf, Refused, Request,
    RequestId, Tokens,
};

/// Raised when a message changes, or a type in one. [`FromEngine::Hello`] alone stays as it is.
pub(super) const PROTOCOL: u32 = 1;

/// What a client says. Its ids are its own.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time is read and used up")]
pub(super) enum ToEngine<'a> {
    /// Run this; answered by [`FromEngine::Accepted`] or [`FromEngine::Refused`].
    Submit(Cow<'a, Request>),
    /// End a request early.
    Cancel(RequestId),
    /// Answered by iterations and [`FromEngine::Taken`].
    TakeIterations { call: u64 },
    /// Answered by events and [`FromEngine::Taken`].
    TakeKvEvents { call: u64 },
    /// The answer to [`FromEngine::Ping`].
    Pong,
}

/// What the server says. Of each request: accepted or refused; if accepted, its outputs in order, then
/// the end.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time is read and used up")]
pub(super) enum FromEngine {
    /// The first message; a status follows.
    Hello { protocol: u32 },
    /// What the engine is like now; when it has changed.
    Status(Status),
    /// The request is queued.
    Accepted(RequestId),
    /// The request will never run.
    Refused(RequestId, Refused),
    /// Generated tokens.
    Tokens(RequestId, Tokens),
    /// Logits, or a part of them; the other parts follow before anything else of the request.
    Logits(RequestId, LogitsPiece),
    /// The end of a sequence.
    Finished(RequestId, Finished),
    /// Nothing more comes: the request has ended, or, without the end of all its sequences, was lost.
    End(RequestId),
    /// One iteration for a call.
    Iteration { call: u64, iteration: Iteration },
    /// One event for a call.
    KvEvent { call: u64, event: KvEvent },
    /// That was all for a call.
    Taken { call: u64 },
    /// Asks for a sign of life.
    Ping,
    /// The connection ends now.
    Closing { reason: String },
}

/// What an engine is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) state: EngineState,
    pub(super) limits: Option<EngineLimits>,
}

/// Consecutive values of one [`Logits`](crate::Logits).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogitsPiece {
    pub(super) of: LogitsOf,
    /// Values in all its pieces.
    pub(super) len: u64,
    pub(super) values: Vec<f32>,
}

/// An iteration in a form that postcard can carry. Postcard writes values without names, and so can't
/// leave one out, as [`IterationStats`] does with `request_stats` for JSON's sake: here they are always
/// there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Iteration {
    stats: IterationStats,
    /// Whether `request_stats` are those of the engine.
    with_requests: bool,
}

impl From<IterationStats> for Iteration {
    fn from(mut stats: IterationStats) -> Self {
        let with_requests = stats.request_stats.is_some();
        stats.request_stats.get_or_insert_default();
        Self { stats, with_requests }
    }
}

impl From<Iteration> for IterationStats {
    fn from(Iteration { mut stats, with_requests }: Iteration) -> Self {
        if !with_requests {
            stats.request_stats = None;
        }
        stats
    }
}
