//! One request to an engine and what comes back for it.

use serde::{Deserialize, Serialize};

/// Names a request within one engine; drawn by the gateway, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A tokenised request, checked by the gateway for everything that needs no engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The request's name.
    pub id: RequestId,
    /// Prompt tokens, at least one.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most, at least one.
    pub max_tokens: u32,
    /// A sampled token of this id ends the request; it is not part of the output.
    pub end_id: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// How the next token is chosen from the logits.
///
/// With [`Sampling::greedy`] the most likely token wins (the lowest id on a tie) and the seed is
/// not read. Otherwise the choice is a pure function of logits, seed and position, so a request
/// gives the same tokens whatever else runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; above zero.
    pub temperature: f32,
    /// Keep this many of the most likely tokens; 0 keeps all, 1 is greedy.
    pub top_k: u32,
    /// Keep the fewest tokens whose probabilities sum to at least this; in (0, 1].
    pub top_p: f32,
    /// Seed of the request's random numbers.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self { temperature: 1.0, top_k: 1, top_p: 1.0, seed: 0 };

    /// Whether the choice is the most likely token.
    #[must_use]
    pub fn greedy(&self) -> bool {
        self.top_k == 1
    }
}

/// What one iteration brought for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Which request.
    pub id: RequestId,
    /// Position of the first of `tokens` among the request's generated tokens, from 0; a
    /// receiver drops what it has seen.
    pub index: u32,
    /// Generated tokens; none if the iteration only ended the request.
    pub tokens: Vec<u32>,
    /// Set on the last output of the request.
    pub finish: Option<FinishReason>,
}

/// Why a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The end token was sampled.
    EndId,
    /// `max_tokens` were generated.
    Length,
    /// The client cancelled or left.
    Cancelled,
    /// The engine could not go on; the text says why.
    Failed(String),
}
