//! The prompt and the words that matter, as text or as tokens.

use std::sync::Arc;

use shardrun_wire::EngineLimits;

use super::words;
use crate::encode::{Text, Tokenised};
use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;
use crate::served::Served;

/// What a request is about.
pub(in crate::generate) enum Content {
    /// Text, still to be tokenised.
    Text {
        text: Text,
        /// Each sequence's text ends after the first of them.
        stop_words: Arc<[String]>,
    },
    /// Tokens.
    Tokens(Tokenised),
}

impl Content {
    pub(super) fn read(fields: &Fields<'_>, limits: &EngineLimits) -> Result<Self, ApiError> {
        match fields.served {
            Served::Ensemble | Served::Bls => Self::text(fields),
            Served::Llm => tokens(fields, limits).map(Self::Tokens),
        }
    }

    fn text(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let input = fields.field(Key::TextInput);
        let prompt: String = input.one("a string", |_| true)?.ok_or_else(|| input.missing())?;
        if prompt.is_empty() {
            return Err(input.invalid("\"\"", "a prompt that is not empty"));
        }
        let text = Text {
            prompt,
            bad_words: words::strings(fields.field(Key::BadWords))?,
            biased_words: words::biased(fields)?,
        };
        let stop_words = words::strings(fields.field(Key::StopWords))?.into();
        Ok(Self::Text { text, stop_words })
    }
}

fn tokens(fields: &Fields<'_>, limits: &EngineLimits) -> Result<Tokenised, ApiError> {
    let ids = fields.field(Key::InputIds);
    if ids.json.is_none() {
        return Err(ids.missing());
    }
    let vocab_size = limits.vocab_size;
    let allowed = format!("tokens below {vocab_size}");
    let prompt =
        ids.list(limits.max_seq_len as usize, &*allowed, |&token: &u32| token < vocab_size)?;
    if prompt.is_empty() {
        return Err(ids.refused("at least one token"));
    }
    let lengths = fields.field(Key::InputLengths);
    let allowed = format!("the number of input_ids, {}", prompt.len());
    lengths
        .one(allowed, |&length: &usize| length == prompt.len())?
        .ok_or_else(|| lengths.missing())?;
    Ok(Tokenised {
        stop_words: words::token_lists(fields.field(Key::StopWords), vocab_size)?,
        bad_words: words::token_lists(fields.field(Key::BadWords), vocab_size)?,
        embedding_bias: words::dense_bias(fields.field(Key::EmbeddingBias), vocab_size)?,
        prompt,
    })
}
