//! Every output of a model, in one table.

use super::Tensor;
use crate::served::Served;

const ALL: &[Served] = &[Served::Ensemble, Served::Bls, Served::Llm];
const TEXT: &[Served] = &[Served::Ensemble, Served::Bls];
const LLM: &[Served] = &[Served::Llm];

/// Name, datatype, shape, and who gives it.
type Output = (&'static str, &'static str, &'static [i32], &'static [Served]);

const OUTPUTS: &[Output] = &[
    ("text_output", "BYTES", &[-1, -1], TEXT),
    ("output_ids", "INT32", &[-1, -1, -1], LLM),
    ("sequence_length", "INT32", &[-1, -1], LLM),
    ("cum_log_probs", "FP32", &[-1, -1], ALL),
    ("output_log_probs", "FP32", &[-1, -1, -1], ALL),
    ("context_logits", "FP32", &[-1, -1, -1], ALL),
    ("generation_logits", "FP32", &[-1, -1, -1, -1], ALL),
    ("sequence_index", "INT32", &[-1, 1], ALL),
    ("kv_cache_alloc_new_blocks", "INT32", &[-1, 1], ALL),
    ("kv_cache_reused_blocks", "INT32", &[-1, 1], ALL),
    ("kv_cache_alloc_total_blocks", "INT32", &[-1, 1], ALL),
    ("arrival_time_ns", "INT64", &[-1, 1], ALL),
    ("first_scheduled_time_ns", "INT64", &[-1, 1], ALL),
    ("first_token_time_ns", "INT64", &[-1, 1], ALL),
    ("last_token_time_ns", "INT64", &[-1, 1], ALL),
    ("acceptance_rate", "FP32", &[-1, 1], ALL),
    ("total_accepted_draft_tokens", "INT32", &[-1, 1], ALL),
    ("total_draft_tokens", "INT32", &[-1, 1], ALL),
];

/// The tensors that a model gives, in the order of a response.
pub(crate) fn output_tensors(served: Served) -> impl Iterator<Item = Tensor> {
    OUTPUTS
        .iter()
        .filter(move |(.., models)| models.contains(&served))
        .map(|&(name, datatype, shape, _)| Tensor { name, datatype, shape })
}
