//! The tensors that both models take and give, in the reference's order.

use serde::Serialize;

/// A tensor's name, type and shape; -1 stands for any size. The first dimension is the batch.
#[derive(Serialize)]
pub(crate) struct Tensor {
    pub(super) name: &'static str,
    datatype: &'static str,
    shape: &'static [i32],
}

const fn one(name: &'static str, datatype: &'static str) -> Tensor {
    Tensor { name, datatype, shape: &[-1, 1] }
}

const fn list(name: &'static str, datatype: &'static str) -> Tensor {
    Tensor { name, datatype, shape: &[-1, -1] }
}

/// Inputs that do what the reference says.
pub(crate) const SERVED_INPUTS: &[Tensor] = &[
    one(TEXT_INPUT, "BYTES"),
    one(MAX_TOKENS, "INT32"),
    list(STOP_WORDS, "BYTES"),
    one(EXCLUDE_INPUT, "BOOL"),
    one(END_ID, "INT32"),
    one(PAD_ID, "INT32"),
    one(TOP_K, "INT32"),
    one(TOP_P, "FP32"),
    one(TEMPERATURE, "FP32"),
    one(SEED, "UINT64"),
    one(STREAM, "BOOL"),
];

/// What comes back.
pub(crate) const OUTPUTS: &[Tensor] = &[list("text_output", "BYTES")];

pub(super) const TEXT_INPUT: &str = "text_input";
pub(super) const MAX_TOKENS: &str = "max_tokens";
pub(super) const STOP_WORDS: &str = "stop_words";
pub(super) const EXCLUDE_INPUT: &str = "exclude_input_in_output";
pub(super) const END_ID: &str = "end_id";
pub(super) const PAD_ID: &str = "pad_id";
pub(super) const TOP_K: &str = "top_k";
pub(super) const TOP_P: &str = "top_p";
pub(super) const TEMPERATURE: &str = "temperature";
pub(super) const SEED: &str = "seed";
pub(super) const STREAM: &str = "stream";
