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
    /// Some prompts.
    pub prompts: Vec<GoldenPrompt>,
}

/// One prompt and what follows it.
#[derive(Debug, Deserialize)]
pub struct GoldenPrompt {
    /// The prompt.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Some tokens, each the most likely one after those before; end tokens don't end them.
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

/// The golden file of Qwen2.5-Coder-0.5B-Instruct in Q4_K_M.
///
/// # Errors
/// If it isn't what it should be.
pub fn golden_qwen() -> anyhow::Result<Golden> {
    let text = include_str!("../golden/qwen2.5-coder-0.5b-q4_k_m.json");
    serde_json::from_str(text).context("golden/qwen2.5-coder-0.5b-q4_k_m.json")
}

impl GoldenPrompt {
    /// The largest difference of the logits after the prompt to the golden ones.
    #[must_use]
    pub fn largest_error(&self, logits: &[f32]) -> f32 {
        let some = self.logits_last.ids.iter().zip(&self.logits_last.values);
        let some = some.map(|(&id, &value)| (logits[id as usize], value));
        let strided = self.logits_full_every_97.iter().flatten();
        let strided = logits.iter().step_by(97).copied().zip(strided.copied());
        some.chain(strided).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max)
    }
}
