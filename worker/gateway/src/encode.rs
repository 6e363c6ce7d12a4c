//! Tokenising text without holding up other requests.

use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::models::Ready;
use crate::{GatewayState, TextModel};

/// Longer texts are tokenised on a thread of their own, one request at a time.
const INLINE_BYTES: usize = 16 << 10;

/// More bytes than a token of ordinary text has, by far. A prompt of more than twice this many
/// bytes for each token of the context is probed first.
const PROBE_BYTES_PER_TOKEN: usize = 16;

/// How many tokens the end of the probe may differ by from the same place in the whole text, which
/// goes on there.
const PROBE_SLACK_TOKENS: usize = 64;

/// The texts of a request.
pub(crate) struct Text {
    pub(crate) prompt: String,
    /// Never generated.
    pub(crate) bad_words: Vec<String>,
    /// What is added to the logits of each of a word's tokens.
    pub(crate) biased_words: Vec<(String, f32)>,
}

/// The tokens of a request.
pub(crate) struct Tokenised {
    /// At least one.
    pub(crate) prompt: Vec<u32>,
    pub(crate) stop_words: Vec<Vec<u32>>,
    pub(crate) bad_words: Vec<Vec<u32>>,
    pub(crate) embedding_bias: Vec<(u32, f32)>,
}

/// The tokens of a request's texts.
///
/// # Errors
/// If the prompt has none, or clearly more than the context holds; the engine judges closer calls.
pub(crate) async fn encode(
    state: &GatewayState,
    ready: &Ready,
    text: Text,
) -> Result<Tokenised, ApiError> {
    let limit = ready.limits.max_seq_len;
    if text.bytes() <= INLINE_BYTES {
        return text.tokenise(&*ready.text, limit);
    }
    let _turn = state.long_prompts().acquire().await.expect("the semaphore is never closed");
    let model = ready.text.clone();
    tokio::task::spawn_blocking(move || text.tokenise(&*model, limit))
        .await
        .map_err(|_| ApiError::TokenizeFailed)?
}

impl Text {
    fn bytes(&self) -> usize {
        let biased = self.biased_words.iter().map(|(word, _)| word.len());
        let words = self.bad_words.iter().map(String::len).chain(biased);
        self.prompt.len() + words.sum::<usize>()
    }

    fn tokenise(&self, model: &dyn TextModel, limit: u32) -> Result<Tokenised, ApiError> {
        let prompt = prompt(model, &self.prompt, limit)?;
        if prompt.is_empty() {
            return Err(ApiError::EmptyPrompt);
        }
        let word = |field: &'static str, word: &str| {
            model.encode_word(word).map_err(|source| ApiError::Tokenize { field, source })
        };
        let mut bad_words = Vec::with_capacity(self.bad_words.len());
        for bad_word in &self.bad_words {
            bad_words.push(word("bad_words", bad_word)?);
        }
        bad_words.retain(|tokens| !tokens.is_empty());
        let mut bias = BTreeMap::new();
        for (biased, weight) in &self.biased_words {
            for token in word("embedding_bias_words", biased)? {
                let sum = bias.entry(token).or_insert(0.0_f32);
                *sum = (*sum + weight).clamp(f32::MIN, f32::MAX);
            }
        }
        let embedding_bias = bias.into_iter().collect();
        Ok(Tokenised { prompt, stop_words: Vec::new(), bad_words, embedding_bias })
    }
}

fn prompt(model: &dyn TextModel, prompt: &str, limit: u32) -> Result<Vec<u32>, ApiError> {
    let encode = |text| {
        model.encode(text).map_err(|source| ApiError::Tokenize { field: "text_input", source })
    };
    let limit_tokens = limit as usize;
    let mut probe = limit_tokens.saturating_mul(PROBE_BYTES_PER_TOKEN);
    if prompt.len() / 2 > probe {
        while !prompt.is_char_boundary(probe) {
            probe -= 1;
        }
        let tokens = encode(&prompt[..probe])?.len();
        if tokens > limit_tokens + PROBE_SLACK_TOKENS {
            return Err(ApiError::PromptTooLong { bytes: probe, tokens, limit });
        }
    }
    encode(prompt)
}
