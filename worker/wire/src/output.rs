//! What comes back for a request.

use serde::{Deserialize, Serialize};

/// Something that came back for one of a request's sequences. A sequence's outputs come in order, its
/// `Finished` last; the request has ended when all its sequences have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Generated tokens.
    Tokens(Tokens),
    /// Logits that were wanted.
    Logits(Logits),
    /// The end of a sequence.
    Finished(Finished),
}

/// Generated tokens of a sequence that follow each other; as many as came since the last look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// Which of the request's sequences, from 0.
    pub sequence: u32,
    /// Position of the first of `tokens` among the sequence's generated tokens, those of
    /// [`Request::resume`](crate::Request::resume) included.
    pub index: u32,
    /// The tokens, at least one.
    pub tokens: Vec<u32>,
    /// The natural logarithms of their probabilities as the model gave them, before anything changed
    /// the logits; empty unless wanted. Of a beam, as the search added them up.
    pub log_probs: Vec<f32>,
}

impl Tokens {
    /// Takes off what is behind the first `at` tokens; `None` if that is nothing.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Option<Self> {
        if self.tokens.len() <= at {
            return None;
        }
        let log_probs = self.log_probs.split_off(at.min(self.log_probs.len()));
        let tokens = self.tokens.split_off(at);
        Some(Self { sequence: self.sequence, index: self.index + at as u32, tokens, log_probs })
    }
}

/// Rows of logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logits {
    /// What they are logits of.
    pub of: LogitsOf,
    /// `[rows, vocabulary]`, as the model gave them.
    pub values: Vec<f32>,
}

/// What a row of logits belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogitsOf {
    /// The prompt's tokens from this position on: a row tells what follows its token.
    Context {
        /// Position of the first row.
        position: u32,
    },
    /// A generated token.
    Generation {
        /// Which of the request's sequences.
        sequence: u32,
        /// The token's place among the sequence's generated tokens.
        index: u32,
    },
}

/// The end of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Which of the request's sequences.
    pub sequence: u32,
    /// Why it ended.
    pub reason: FinishReason,
    /// What a beam search says of it; `None` of a sequence that was sampled.
    pub score: Option<BeamScore>,
    /// The request's account, with the last of its sequences to end.
    pub account: Option<RequestAccount>,
}

/// How likely a beam search found a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeamScore {
    /// By which beams are ordered: `cum_log_prob` over the length to the power of the length penalty.
    pub score: f32,
    /// The sum of its tokens' log probabilities; that of the end token counts.
    pub cum_log_prob: f32,
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The end token was sampled, or the guide allows nothing more.
    EndId,
    /// A stop word was generated.
    StopWords,
    /// `max_tokens` were generated.
    Length,
    /// The request's time was over.
    TimedOut,
    /// The client cancelled or left.
    Cancelled,
    /// The request waited longer than the queue allows, and never started.
    Expired,
    /// The engine could not go on; the text says why.
    Failed(String),
}

/// Times and blocks of a request. Times are nanoseconds of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAccount {
    /// It was submitted.
    pub arrival_ns: u64,
    /// An iteration first had it in; 0 if none did.
    pub first_scheduled_ns: u64,
    /// Its first token was there; 0 if none was.
    pub first_token_ns: u64,
    /// Its last token was there; 0 if none was.
    pub last_token_ns: u64,
    /// KV blocks.
    pub blocks: BlockCounts,
}

/// KV blocks of a request, or of all requests since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockCounts {
    /// Taken into use, reused ones included.
    pub alloc_total: u64,
    /// Of those, taken from the free ones or from evicted ones.
    pub alloc_new: u64,
    /// Whole blocks of a prompt found in the cache.
    pub reused: u64,
    /// Whole blocks of a prompt looked for in the cache in vain.
    pub missed: u64,
}

impl BlockCounts {
    /// The share of looked-for blocks that were found; 0 if none was looked for.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        match self.reused + self.missed {
            0 => 0.0,
            all => self.reused as f64 / all as f64,
        }
    }
}
