//! What an independent reference made of the model; `golden/make_golden.py` says how.

use anyhow::Context as _;
use serde::Deserialize;

/// No logit of this engine differs by more from the reference's, whatever the instruction set:
/// `tests/logits.rs` holds it to that. Measured were 8.0e-5, of which 5e-5 may be the rounding of the
/// golden file to six digits.
pub const LOGIT_ERROR: f32 = 2e-4;

/// The file.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// SHA-256 of the model that it is about.
    pub model_sha256: String,
    /// Twenty prompts.
    pub prompts: Vec<GoldenPrompt>,
}

/// One prompt and what follows it.
#[derive(Debug, Deserialize)]
pub struct GoldenPrompt {
    /// The prompt.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// 64 tokens, each the most likely one after those before; end tokens don't end them.
    pub greedy: Vec<u32>,
    /// For each of them, how much its logit is above the next best.
    pub gap: Vec<f32>,
    /// Some logits after the prompt.
    pub logits_last: SomeLogits,
    /// Every 97th logit after the prompt, for a few prompts.
    pub logits_full_every_97: Option<Vec<f32>>,
}

/// Logits of some tokens.
#[derive(Debug, Deserialize)]
pub struct SomeLogits {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Their logits.
    pub values: Vec<f32>,
}

/// The golden file of SmolLM2-135M-Instruct in Q4_1.
///
/// # Errors
/// If it isn't what it should be.
pub fn golden() -> anyhow::Result<Golden> {
    let text = include_str!("../golden/smollm2-135m-q4_1.json");
    serde_json::from_str(text).context("golden/smollm2-135m-q4_1.json")
}
