//! Every input that a model knows, in one table: for reading requests, for metadata, and for
//! refusing what nobody here acts on.

use super::Tensor;
use super::neutral::Neutral;
use crate::served::Served;

/// An input of some models.
pub(super) struct Input {
    pub(super) name: &'static str,
    models: &'static [Served],
    pub(super) role: Role,
}

/// What an input is for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// A tensor that is acted on: its datatype and shape.
    Tensor(Key, &'static str, &'static [i32]),
    /// A request parameter, one scalar, that is acted on.
    Parameter(Key),
    /// Known to the reference alone.
    Unserved(Neutral),
}

/// What an input says, whatever the model calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    TextInput,
    InputIds,
    InputLengths,
    MaxTokens,
    EndId,
    PadId,
    StopWords,
    BadWords,
    EmbeddingBiasWords,
    EmbeddingBiasWeights,
    EmbeddingBias,
    TopK,
    TopP,
    TopPMin,
    TopPDecay,
    TopPResetId,
    MinP,
    Temperature,
    RepetitionPenalty,
    PresencePenalty,
    FrequencyPenalty,
    NoRepeatNgramSize,
    MinTokens,
    Seed,
    BeamWidth,
    NumReturnSequences,
    LengthPenalty,
    EarlyStopping,
    DiversityRate,
    GuideType,
    Guide,
    ReturnLogProbs,
    ReturnContextLogits,
    ReturnGenerationLogits,
    ReturnPerfMetrics,
    ExcludeInput,
    Stream,
    ReturnAll,
    Stop,
    RangeStarts,
    RangeEnds,
    RangePriorities,
    RangeDurations,
    DecodePriority,
    DecodeDuration,
    CacheSalt,
    Priority,
    Timeout,
}

const ALL: &[Served] = &[Served::Ensemble, Served::Bls, Served::Llm];
const TEXT: &[Served] = &[Served::Ensemble, Served::Bls];
const BLS: &[Served] = &[Served::Bls];
const LLM: &[Served] = &[Served::Llm];

const BOOL: &str = "BOOL";
const BYTES: &str = "BYTES";
const FP32: &str = "FP32";
const INT32: &str = "INT32";
const UINT64: &str = "UINT64";

type Models = &'static [Served];

const fn one(key: Key, name: &'static str, datatype: &'static str, models: Models) -> Input {
    Input { name, models, role: Role::Tensor(key, datatype, &[-1, 1]) }
}

const fn list(key: Key, name: &'static str, datatype: &'static str, models: Models) -> Input {
    Input { name, models, role: Role::Tensor(key, datatype, &[-1, -1]) }
}

/// Words as token ids and where each of them ends.
const fn word_list(key: Key, name: &'static str, models: Models) -> Input {
    Input { name, models, role: Role::Tensor(key, INT32, &[-1, 2, -1]) }
}

const fn parameter(key: Key, name: &'static str) -> Input {
    Input { name, models: ALL, role: Role::Parameter(key) }
}

const fn unserved(name: &'static str, neutral: Neutral, models: Models) -> Input {
    Input { name, models, role: Role::Unserved(neutral) }
}

const INPUTS: &[Input] = &[
    // The prompt.
    one(Key::TextInput, "text_input", BYTES, TEXT),
    list(Key::InputIds, "input_ids", INT32, LLM),
    one(Key::InputLengths, "input_lengths", INT32, LLM),
    one(Key::MaxTokens, "max_tokens", INT32, TEXT),
    one(Key::MaxTokens, "request_output_len", INT32, LLM),
    one(Key::EndId, "end_id", INT32, ALL),
    one(Key::PadId, "pad_id", INT32, ALL),
    // Words.
    list(Key::BadWords, "bad_words", BYTES, TEXT),
    list(Key::StopWords, "stop_words", BYTES, TEXT),
    list(Key::EmbeddingBiasWords, "embedding_bias_words", BYTES, TEXT),
    list(Key::EmbeddingBiasWeights, "embedding_bias_weights", FP32, TEXT),
    word_list(Key::BadWords, "bad_words_list", LLM),
    word_list(Key::StopWords, "stop_words_list", LLM),
    list(Key::EmbeddingBias, "embedding_bias", FP32, LLM),
    // Sampling.
    one(Key::TopK, "top_k", INT32, TEXT),
    one(Key::TopK, "runtime_top_k", INT32, LLM),
    one(Key::TopP, "top_p", FP32, TEXT),
    one(Key::TopP, "runtime_top_p", FP32, LLM),
    one(Key::TopPMin, "runtime_top_p_min", FP32, ALL),
    one(Key::TopPDecay, "runtime_top_p_decay", FP32, ALL),
    one(Key::TopPResetId, "runtime_top_p_reset_ids", INT32, ALL),
    one(Key::MinP, "min_p", FP32, ALL),
    one(Key::Temperature, "temperature", FP32, ALL),
    one(Key::RepetitionPenalty, "repetition_penalty", FP32, ALL),
    one(Key::PresencePenalty, "presence_penalty", FP32, ALL),
    one(Key::FrequencyPenalty, "frequency_penalty", FP32, ALL),
    one(Key::NoRepeatNgramSize, "no_repeat_ngram_size", INT32, ALL),
    one(Key::MinTokens, "min_tokens", INT32, ALL),
    one(Key::Seed, "seed", UINT64, ALL),
    // Sequences.
    one(Key::BeamWidth, "beam_width", INT32, ALL),
    one(Key::NumReturnSequences, "num_return_sequences", INT32, ALL),
    one(Key::LengthPenalty, "length_penalty", FP32, TEXT),
    one(Key::LengthPenalty, "len_penalty", FP32, LLM),
    one(Key::EarlyStopping, "early_stopping", BOOL, ALL),
    one(Key::DiversityRate, "beam_search_diversity_rate", FP32, ALL),
    // What the text must be like.
    one(Key::GuideType, "guided_decoding_guide_type", BYTES, ALL),
    one(Key::Guide, "guided_decoding_guide", BYTES, ALL),
    // What comes back, and how.
    one(Key::ReturnLogProbs, "return_log_probs", BOOL, ALL),
    one(Key::ReturnContextLogits, "return_context_logits", BOOL, ALL),
    one(Key::ReturnGenerationLogits, "return_generation_logits", BOOL, ALL),
    one(Key::ReturnPerfMetrics, "return_perf_metrics", BOOL, ALL),
    one(Key::ExcludeInput, "exclude_input_in_output", BOOL, ALL),
    one(Key::Stream, "stream", BOOL, TEXT),
    one(Key::Stream, "streaming", BOOL, LLM),
    one(Key::Stop, "stop", BOOL, LLM),
    parameter(Key::ReturnAll, "return_all_generated_tokens"),
    // How long blocks stay in the cache, and for whom.
    list(Key::RangeStarts, "retention_token_range_starts", INT32, ALL),
    list(Key::RangeEnds, "retention_token_range_ends", INT32, ALL),
    list(Key::RangePriorities, "retention_token_range_priorities", INT32, ALL),
    list(Key::RangeDurations, "retention_token_range_durations_ms", INT32, ALL),
    one(Key::DecodePriority, "retention_decode_priority", INT32, ALL),
    one(Key::DecodeDuration, "retention_decode_duration_ms", INT32, ALL),
    one(Key::CacheSalt, "cache_salt", BYTES, ALL),
    // When it runs.
    parameter(Key::Priority, "priority"),
    parameter(Key::Timeout, "timeout"),
    // Prompt tuning and adapters.
    unserved("prompt_embedding_table", Neutral::NoElements, ALL),
    unserved("prompt_table_extra_id", Neutral::NoElements, TEXT),
    unserved("prompt_table_extra_ids", Neutral::NoElements, LLM),
    unserved("prompt_vocab_size", Neutral::Zero, ALL),
    unserved("lora_task_id", Neutral::NoElements, ALL),
    unserved("lora_weights", Neutral::NoElements, ALL),
    unserved("lora_config", Neutral::NoElements, ALL),
    // Encoders and images.
    unserved("decoder_text_input", Neutral::EmptyText, TEXT),
    unserved("decoder_input_ids", Neutral::NoElements, LLM),
    unserved("decoder_input_lengths", Neutral::Zero, LLM),
    unserved("encoder_input_features", Neutral::NoElements, LLM),
    unserved("encoder_output_lengths", Neutral::Zero, LLM),
    unserved("cross_attention_mask", Neutral::NoElements, LLM),
    unserved("skip_cross_attn_blocks", Neutral::False, LLM),
    unserved("mrope_rotary_cos_sin", Neutral::NoElements, LLM),
    unserved("mrope_position_deltas", Neutral::NoElements, LLM),
    unserved("image_input", Neutral::NoElements, BLS),
    unserved("image_bytes_input", Neutral::NoElements, BLS),
    unserved("image_url_input", Neutral::EmptyText, BLS),
    unserved("video_bytes_input", Neutral::NoElements, BLS),
    // Speculative decoding.
    unserved("num_draft_tokens", Neutral::Zero, BLS),
    unserved("use_draft_logits", Neutral::False, BLS),
    unserved("draft_input_ids", Neutral::NoElements, LLM),
    unserved("draft_logits", Neutral::NoElements, LLM),
    // Says when drafts are taken, and there are none.
    unserved("draft_acceptance_threshold", Neutral::AnyNumber, LLM),
    unserved("lookahead_window_size", Neutral::Zero, LLM),
    unserved("lookahead_ngram_size", Neutral::Zero, LLM),
    unserved("lookahead_verification_set_size", Neutral::Zero, LLM),
    // Prompt and generation on different engines.
    unserved("context_phase_params", Neutral::NoElements, LLM),
    unserved("request_type", Neutral::Text("context_and_generation"), ALL),
];

/// The input of a model that clients name so.
pub(super) fn by_name(served: Served, name: &str) -> Option<&'static Input> {
    of(served).find(|input| input.name == name)
}

/// What a model calls an input; `None` if it doesn't have it.
pub(super) fn name_of(served: Served, key: Key) -> Option<&'static str> {
    let is_it = |role| match role {
        Role::Tensor(its, ..) | Role::Parameter(its) => its == key,
        Role::Unserved(_) => false,
    };
    of(served).find(|input| is_it(input.role)).map(|input| input.name)
}

/// The tensors that a model takes and acts on.
pub(crate) fn input_tensors(served: Served) -> impl Iterator<Item = Tensor> {
    of(served).filter_map(|input| match input.role {
        Role::Tensor(_, datatype, shape) => Some(Tensor { name: input.name, datatype, shape }),
        Role::Parameter(_) | Role::Unserved(_) => None,
    })
}

fn of(served: Served) -> impl Iterator<Item = &'static Input> {
    INPUTS.iter().filter(move |input| input.models.contains(&served))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_model_has_each_name_and_each_key_once() {
        for &served in ALL {
            let mut names = HashSet::new();
            let mut keys = HashSet::new();
            for input in of(served) {
                assert!(names.insert(input.name), "{served:?}: {}", input.name);
                if let Role::Tensor(key, ..) | Role::Parameter(key) = input.role {
                    assert!(keys.insert(key), "{served:?}: {key:?}");
                }
            }
        }
    }

    #[test]
    fn no_input_has_a_name_that_requests_reserve() {
        assert!(INPUTS.iter().all(|input| !["id", "parameters"].contains(&input.name)));
    }
}
