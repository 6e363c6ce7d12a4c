//! How the next token is chosen.

use serde::{Deserialize, Serialize};

/// How the next token is chosen from the logits.
///
/// The choice is a pure function of the logits, the sequence's tokens so far, the seed, the
/// position and the sequence's number, so a request gives the same tokens whatever else runs. Logits
/// are changed in this order: embedding bias, repetition penalty, presence and frequency penalty,
/// tokens that are not allowed (bad words, repeated n-grams, the end token before `min_tokens`, a
/// guide), temperature, then the smallest of top-k, top-p and min-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; above zero.
    pub temperature: f32,
    /// Keep this many of the most likely tokens; 0 keeps all, 1 is greedy.
    pub top_k: u32,
    /// Keep the fewest tokens whose probabilities sum to at least this; in (0, 1].
    pub top_p: f32,
    /// Multiplies `top_p` after each generated token; in (0, 1].
    pub top_p_decay: f32,
    /// What `top_p` decays to at least; in (0, 1].
    pub top_p_min: f32,
    /// A generated token of this id sets `top_p` back to what it was.
    pub top_p_reset_id: Option<u32>,
    /// Keep tokens at least this likely as a share of the most likely one; in [0, 1].
    pub min_p: f32,
    /// Logits of tokens in prompt or output are divided by this if positive, else multiplied; above
    /// zero, 1 changes nothing (Keskar et al., 2019).
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that were generated.
    pub presence_penalty: f32,
    /// Taken from the logits of tokens, as often as they were generated.
    pub frequency_penalty: f32,
    /// No run of this many tokens comes twice in prompt and output; 0 allows all.
    pub no_repeat_ngram_size: u32,
    /// The end token is not generated before so many tokens.
    pub min_tokens: u32,
    /// Seed of the request's random numbers.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self {
        temperature: 1.0,
        top_k: 1,
        top_p: 1.0,
        top_p_decay: 1.0,
        top_p_min: 1e-6,
        top_p_reset_id: None,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        no_repeat_ngram_size: 0,
        min_tokens: 0,
        seed: 0,
    };

    /// Whether the choice is the most likely token: the lowest id on a tie.
    #[must_use]
    pub fn greedy(&self) -> bool {
        self.top_k == 1
    }
}
