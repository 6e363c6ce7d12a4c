//! What an independent reference generates from the model; `golden/make_generation_golden.py` says how.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The file.
#[derive(Debug, Deserialize)]
pub struct Generation {
    /// SHA-256 of the model that it is about.
    pub model_sha256: String,
    /// Tokens that each sequence may have.
    pub new_tokens: usize,
    /// What was asked for, and what came.
    pub cases: Vec<GenerationCase>,
}

/// One request.
#[derive(Debug, Deserialize)]
pub struct GenerationCase {
    /// Index of its prompt among those of [`golden`](crate::golden()).
    pub prompt: usize,
    /// Inputs, named as in `docs/api.md`; `bad_words` are lists of tokens, and `embedding_bias` is
    /// pairs of a token and its weight.
    pub inputs: Map<String, Value>,
    /// Best first.
    pub sequences: Vec<GoldenSequence>,
    /// For each step, how close the choice was; of beams, in log probabilities.
    pub gap: Vec<f32>,
}

/// One sequence.
#[derive(Debug, Deserialize)]
pub struct GoldenSequence {
    /// Its tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Whether there was one.
    pub ended: bool,
    /// Of a greedy sequence: log probability of each token, as the model gave it.
    pub log_probs: Option<Vec<f32>>,
    /// Of a beam: its log probability over its length, the end token counted in both.
    pub score: Option<f32>,
}

/// The golden file of what SmolLM2-135M-Instruct in Q4_1 generates.
///
/// # Errors
/// If it isn't what it should be.
pub fn generation() -> anyhow::Result<Generation> {
    let text = include_str!("../golden/generation.json");
    serde_json::from_str(text).context("golden/generation.json")
}
