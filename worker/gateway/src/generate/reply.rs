//! One response: an object with the outputs that were asked for.

mod object;

use shardrun_wire::{RequestAccount, Wanted};

use super::parameters::Delivery;
use crate::completion::Generated;
use crate::error::ApiError;
use crate::served::{Served, Target, VERSION};

pub(super) use object::Body;
use object::Object;

/// What all responses to a request have in common.
pub(super) struct Form {
    served: Served,
    /// The client's name for the model.
    model: String,
    /// The client's name for the request; empty if it has none.
    id: String,
    wanted: Wanted,
    perf_metrics: bool,
}

/// What a response says.
#[derive(Default)]
pub(super) struct Answer {
    /// All sequences of the request, or the piece of one.
    pub(super) sequences: Vec<Generated>,
    /// The sum of the log probabilities of each sequence up to here, if they are wanted.
    pub(super) cum_log_probs: Vec<f32>,
    /// Rows for the prompt's tokens, if they are wanted.
    pub(super) context_logits: Vec<Vec<f32>>,
    /// Which sequence this is, if that has to be said.
    pub(super) sequence_index: Option<u32>,
    /// At the end.
    pub(super) account: Option<RequestAccount>,
}

/// Fills up the log probabilities of shorter sequences, as in the reference.
const LOG_PROB_PAD: f32 = -1.0;
/// Fills up the tokens of shorter sequences, as in the reference.
const TOKEN_PAD: i64 = -1;

impl Form {
    pub(super) fn new(target: Target, id: String, delivery: &Delivery) -> Self {
        let Delivery { wanted, perf_metrics, .. } = *delivery;
        let Target { served, name: model, .. } = target;
        Self { served, model, id, wanted, perf_metrics }
    }

    /// A response.
    pub(super) fn reply(&self, answer: Answer) -> Body {
        let mut object = head(&self.model, &self.id);
        let sequences = answer.sequences;
        match self.served {
            Served::Ensemble | Served::Bls => {
                // The reference's ensembles have these.
                object.member("sequence_id", &0);
                object.member("sequence_start", &false);
                object.member("sequence_end", &false);
                let texts: Vec<&str> = sequences.iter().map(|one| &*one.text).collect();
                object.list("text_output", &texts);
            }
            Served::Llm => {
                let tokens = |one: &Generated| one.tokens.iter().map(|&id| id.into()).collect();
                object.list("output_ids", &padded(&sequences, tokens, TOKEN_PAD));
                let lengths: Vec<usize> = sequences.iter().map(|one| one.tokens.len()).collect();
                object.list("sequence_length", &lengths);
            }
        }
        if self.wanted.log_probs {
            object.list("cum_log_probs", &answer.cum_log_probs);
            let log_probs = |one: &Generated| one.log_probs.clone();
            object.list("output_log_probs", &padded(&sequences, log_probs, LOG_PROB_PAD));
        }
        if !answer.context_logits.is_empty() {
            object.rows("context_logits", answer.context_logits);
        }
        if self.wanted.generation_logits {
            object.rows("generation_logits", padded_rows(sequences));
        }
        if let Some(index) = answer.sequence_index {
            object.member("sequence_index", &index);
        }
        if let Some(account) = answer.account.filter(|_| self.perf_metrics) {
            perf_metrics(&mut object, &account);
        }
        object.end()
    }
}

/// A response that says that all is well, and nothing else.
pub(super) fn empty(model: &str, id: &str) -> Body {
    head(model, id).end()
}

/// An error after the first response: the status has been sent.
pub(super) fn error(error: &ApiError) -> Body {
    let mut object = Object::new();
    object.member("error", &error.to_string());
    object.end()
}

fn head(model: &str, id: &str) -> Object {
    let mut object = Object::new();
    if !id.is_empty() {
        object.member("id", id);
    }
    object.member("model_name", model);
    object.member("model_version", VERSION);
    object
}

fn perf_metrics(object: &mut Object, account: &RequestAccount) {
    let blocks = &account.blocks;
    for (name, number) in [
        ("kv_cache_alloc_new_blocks", blocks.alloc_new),
        ("kv_cache_reused_blocks", blocks.reused),
        ("kv_cache_alloc_total_blocks", blocks.alloc_total),
        ("arrival_time_ns", account.arrival_ns),
        ("first_scheduled_time_ns", account.first_scheduled_ns),
        ("first_token_time_ns", account.first_token_ns),
        ("last_token_time_ns", account.last_token_ns),
    ] {
        object.member(name, &number);
    }
    // Nothing is drafted.
    object.member("acceptance_rate", &0.0);
    object.member("total_accepted_draft_tokens", &0);
    object.member("total_draft_tokens", &0);
}

/// The values of all sequences one after the other, each filled up to the longest.
fn padded<T: Copy>(
    sequences: &[Generated],
    values: impl Fn(&Generated) -> Vec<T>,
    pad: T,
) -> Vec<T> {
    let all: Vec<Vec<T>> = sequences.iter().map(values).collect();
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    let mut flat = Vec::with_capacity(longest * all.len());
    for (n, mut values) in all.into_iter().enumerate() {
        flat.append(&mut values);
        flat.resize(longest * (n + 1), pad);
    }
    flat
}

/// The rows of all sequences, those of shorter ones filled up with rows of zeros.
fn padded_rows(sequences: Vec<Generated>) -> Vec<Vec<f32>> {
    let longest = sequences.iter().map(|one| one.logits.len()).max().unwrap_or(0);
    let width = sequences.iter().find_map(|one| one.logits.first()).map_or(0, Vec::len);
    let mut rows = Vec::with_capacity(longest * sequences.len());
    for (n, mut one) in sequences.into_iter().enumerate() {
        rows.append(&mut one.logits);
        rows.resize(longest * (n + 1), vec![0.0; width]);
    }
    rows
}
