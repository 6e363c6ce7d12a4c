//! Tokenising prompts without holding up other requests.

use std::sync::Arc;

use crate::error::ApiError;
use crate::state::Ready;
use crate::{GatewayState, TextModel};

/// Longer prompts are tokenised on a thread of their own, one at a time.
const INLINE_BYTES: usize = 16 << 10;

/// More bytes than a token of ordinary text has, by far. A prompt of more than twice this many
/// bytes for each token of the context is probed first.
const PROBE_BYTES_PER_TOKEN: usize = 16;

/// How many tokens the end of the probe may differ by from the same place in the whole text, which
/// goes on there.
const PROBE_SLACK_TOKENS: usize = 64;

/// The tokens of a prompt; at least one.
///
/// # Errors
/// If it has none, or clearly more than the context holds; the engine judges closer calls.
pub(crate) async fn encode(
    state: &GatewayState,
    ready: &Ready,
    prompt: &Arc<str>,
) -> Result<Vec<u32>, ApiError> {
    let limit = ready.limits.max_seq_len;
    let tokens = if prompt.len() <= INLINE_BYTES {
        encode_now(&*ready.text, prompt, limit)?
    } else {
        let _turn = state.long_prompts().acquire().await.expect("the semaphore is never closed");
        let (text, prompt) = (ready.text.clone(), prompt.clone());
        tokio::task::spawn_blocking(move || encode_now(&*text, &prompt, limit))
            .await
            .map_err(|_| ApiError::TokenizeFailed)??
    };
    if tokens.is_empty() {
        return Err(ApiError::EmptyPrompt);
    }
    Ok(tokens)
}

fn encode_now(text: &dyn TextModel, prompt: &str, limit: u32) -> Result<Vec<u32>, ApiError> {
    let limit_tokens = limit as usize;
    let mut probe = limit_tokens.saturating_mul(PROBE_BYTES_PER_TOKEN);
    if prompt.len() / 2 > probe {
        while !prompt.is_char_boundary(probe) {
            probe -= 1;
        }
        let tokens = text.encode(&prompt[..probe]).map_err(ApiError::Tokenize)?.len();
        if tokens > limit_tokens + PROBE_SLACK_TOKENS {
            return Err(ApiError::PromptTooLong { bytes: probe, tokens, limit });
        }
    }
    text.encode(prompt).map_err(ApiError::Tokenize)
}
