//! One request to an engine.

mod guide;
mod retention;
mod sampling;
mod search;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use guide::Guide;
pub use retention::{RetainedRange, Retention, RetentionPriority};
pub use sampling::Sampling;
pub use search::{BeamSearch, Search};

/// Names a request within one engine; drawn by the gateway, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A tokenised request, checked by the gateway for everything that needs no engine.
///
/// What is generated is a pure function of a request and the model: [`Request::resume`] lets
/// another engine go on where one has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The request's name.
    pub id: RequestId,
    /// Prompt tokens, at least one.
    pub prompt: Vec<u32>,
    /// What each sequence had generated when an earlier engine ended; empty for a request that is
    /// new. Requests that search by beams start over instead.
    pub resume: Vec<Resumed>,
    /// Tokens to generate at most, for each sequence, those of `resume` included; at least one.
    pub max_tokens: u32,
    /// A sampled token of this id ends its sequence; it is not part of the output.
    pub end_id: Option<u32>,
    /// A sequence whose generated tokens end in one of these ends there; they are part of the output.
    pub stop_words: Vec<Vec<u32>>,
    /// Runs of tokens that are never generated.
    pub bad_words: Vec<Vec<u32>>,
    /// Added to the logits of these tokens.
    pub embedding_bias: Vec<(u32, f32)>,
    /// How many sequences there are, and how they come about.
    pub search: Search,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the generated text must be like.
    pub guide: Option<Guide>,
    /// What comes back beside tokens.
    pub wanted: Wanted,
    /// Requests of higher priority start first; in [0, 1].
    pub priority: f32,
    /// Ends the request when it has been in the engine for so long.
    pub timeout: Option<Duration>,
    /// How long its blocks stay in the cache after it.
    pub retention: Retention,
    /// Blocks are only found by requests with the same salt: tenants can't tell what others asked.
    pub cache_salt: Option<String>,
}

/// The priority of a request that names none.
pub const DEFAULT_PRIORITY: f32 = 0.5;

/// What one sequence had generated before its engine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// Its tokens so far.
    pub tokens: Vec<u32>,
    /// Whether it had ended: nothing more is generated for it, and nothing comes back.
    pub finished: bool,
}

/// What comes back beside tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The log probability of each generated token.
    pub log_probs: bool,
    /// Logits of every prompt token: `[prompt, vocabulary]`. The prompt is computed as a whole then,
    /// whatever the cache holds.
    pub context_logits: bool,
    /// Logits that each generated token was chosen from: `[tokens, vocabulary]`.
    pub generation_logits: bool,
}

impl Request {
    /// A greedy request without anything special.
    #[must_use]
    pub fn new(id: RequestId, prompt: Vec<u32>, max_tokens: u32) -> Self {
        Self {
            id,
            prompt,
            resume: Vec::new(),
            max_tokens,
            end_id: None,
            stop_words: Vec::new(),
            bad_words: Vec::new(),
            embedding_bias: Vec::new(),
            search: Search::ONE,
            sampling: Sampling::GREEDY,
            guide: None,
            wanted: Wanted::default(),
            priority: DEFAULT_PRIORITY,
            timeout: None,
            retention: Retention::default(),
            cache_salt: None,
        }
    }
}
