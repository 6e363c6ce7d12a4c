//! Inputs of the reference that this server does not act on. The value that asks for nothing is
//! taken, since many clients send every input; any other is refused, since acting as if
//! it were not there would give another answer than the one asked for.

use super::value::{Elements, shown};
use crate::error::ApiError;
use crate::served::Served;

/// The values that ask for nothing.
#[derive(Clone, Copy)]
enum Neutral {
    Number(f64),
    AnyNumber,
    False,
    EmptyText,
    NoElements,
}

impl Neutral {
    fn holds(self, json: &str) -> bool {
        match self {
            Self::Number(neutral) => {
                serde_json::from_str::<f64>(json).is_ok_and(|number| number == neutral)
            }
            Self::AnyNumber => serde_json::from_str::<f64>(json).is_ok(),
            Self::False => json == "false",
            Self::EmptyText => json == "\"\"",
            Self::NoElements => false,
        }
    }

    fn accepted(self) -> &'static str {
        match self {
            Self::Number(0.0) => "0",
            Self::Number(_) => "1",
            Self::AnyNumber => "a number",
            Self::False => "false",
            Self::EmptyText => "empty text",
            Self::NoElements => "an empty array",
        }
    }
}

const BOTH: &[(&str, Neutral)] = &[
    ("decoder_text_input", Neutral::EmptyText),
    ("num_return_sequences", Neutral::Number(1.0)),
    ("bad_words", Neutral::EmptyText),
    // Weighs beams against each other, and there is one.
    ("length_penalty", Neutral::AnyNumber),
    ("repetition_penalty", Neutral::Number(1.0)),
    ("min_tokens", Neutral::Number(0.0)),
    ("presence_penalty", Neutral::Number(0.0)),
    ("frequency_penalty", Neutral::Number(0.0)),
    ("return_log_probs", Neutral::False),
    ("return_context_logits", Neutral::False),
    ("return_generation_logits", Neutral::False),
    ("return_perf_metrics", Neutral::False),
    ("beam_width", Neutral::Number(1.0)),
    ("prompt_embedding_table", Neutral::NoElements),
    ("prompt_table_extra_id", Neutral::NoElements),
    ("prompt_vocab_size", Neutral::Number(0.0)),
    ("embedding_bias_words", Neutral::EmptyText),
    ("embedding_bias_weights", Neutral::NoElements),
    ("lora_task_id", Neutral::NoElements),
    ("lora_weights", Neutral::NoElements),
    ("lora_config", Neutral::NoElements),
    ("guided_decoding_guide_type", Neutral::EmptyText),
    ("guided_decoding_guide", Neutral::EmptyText),
];

const BLS_ALONE: &[(&str, Neutral)] = &[
    ("image_input", Neutral::NoElements),
    ("image_bytes_input", Neutral::NoElements),
    ("image_url_input", Neutral::EmptyText),
    ("video_bytes_input", Neutral::NoElements),
    ("num_draft_tokens", Neutral::Number(0.0)),
    ("use_draft_logits", Neutral::False),
];

/// Whether `name` is such an input of `served`, having checked that `json` asks for nothing.
///
/// # Errors
/// [`ApiError::Unsupported`] if it asks for something.
pub(super) fn is_unserved(served: Served, name: &str, json: &str) -> Result<bool, ApiError> {
    let alone = if served == Served::Bls { BLS_ALONE } else { &[] };
    let Some(&(field, neutral)) = BOTH.iter().chain(alone).find(|(field, _)| *field == name) else {
        return Ok(false);
    };
    let elements = Elements::of(field, json)?;
    if elements.iter().all(|element| neutral.holds(element)) {
        return Ok(true);
    }
    Err(ApiError::Unsupported { field, value: shown(json), accepted: neutral.accepted() })
}
