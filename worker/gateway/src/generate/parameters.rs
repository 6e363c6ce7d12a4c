//! What a request asks for, checked for everything that needs no engine.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use shardrun_wire::Sampling;

use super::fields::Fields;
use super::inputs;
use super::value::{Elements, read, shown};
use crate::error::ApiError;
use crate::served::Served;
use crate::state::Ready;

/// One request to generate text.
#[derive(Debug)]
pub(super) struct Parameters {
    /// The client's name for it; empty if it has none.
    pub(super) id: String,
    /// The prompt; not empty.
    pub(super) prompt: Arc<str>,
    /// At least 1.
    pub(super) max_tokens: u32,
    pub(super) end_id: Option<u32>,
    pub(super) sampling: Sampling,
    pub(super) stop_words: Vec<String>,
    /// Whether text comes as it is generated.
    pub(super) stream: bool,
    /// Whether the whole text begins with the prompt.
    pub(super) include_prompt: bool,
}

impl Parameters {
    /// Reads a body.
    ///
    /// # Errors
    /// Naming the field, its value and what is allowed.
    pub(super) fn read(served: Served, body: &str, ready: &Ready) -> Result<Self, ApiError> {
        let fields = Fields::read(served, body)?;
        let prompt: String = one(&fields, inputs::TEXT_INPUT, "a string", |_| true)?
            .ok_or(ApiError::Missing { field: inputs::TEXT_INPUT })?;
        if prompt.is_empty() {
            return Err(invalid(inputs::TEXT_INPUT, "\"\"", "a prompt that is not empty"));
        }
        // The reference's 32-bit signed integers.
        let max_tokens = one(
            &fields,
            inputs::MAX_TOKENS,
            "a whole number from 1 to 2147483647",
            |&tokens: &u32| (1..=i32::MAX as u32).contains(&tokens),
        )?
        .ok_or(ApiError::Missing { field: inputs::MAX_TOKENS })?;
        let _: Option<i32> = one(&fields, inputs::PAD_ID, "a whole number of 32 bits", |_| true)?;
        Ok(Self {
            prompt: prompt.into(),
            max_tokens,
            end_id: end_id(&fields, ready)?,
            sampling: sampling(&fields)?,
            stop_words: stop_words(&fields)?,
            stream: flag(&fields, inputs::STREAM)?,
            include_prompt: !flag(&fields, inputs::EXCLUDE_INPUT)?,
            id: fields.id,
        })
    }
}

/// An input that has one element.
fn one<T: DeserializeOwned>(
    fields: &Fields<'_>,
    field: &'static str,
    allowed: &str,
    holds: impl FnOnce(&T) -> bool,
) -> Result<Option<T>, ApiError> {
    let Some(json) = fields.get(field) else { return Ok(None) };
    let element = Elements::of(field, json)?.one(field)?;
    element.map(|json| read(field, json, allowed, holds)).transpose()
}

fn flag(fields: &Fields<'_>, field: &'static str) -> Result<bool, ApiError> {
    Ok(one(fields, field, "true or false", |_| true)?.unwrap_or(false))
}

fn invalid(field: &'static str, value: &str, allowed: &str) -> ApiError {
    ApiError::Invalid { field, value: shown(value), allowed: allowed.to_owned() }
}

/// The tokenizer's end token, unless the request names another, or with a negative one none.
fn end_id(fields: &Fields<'_>, ready: &Ready) -> Result<Option<u32>, ApiError> {
    let vocab_size = ready.limits.vocab_size;
    let allowed = format!("a token below {vocab_size}, or a negative number for none");
    let given = one(fields, inputs::END_ID, &allowed, |&id: &i32| {
        u32::try_from(id).is_ok_and(|id| id < vocab_size) || id < 0
    })?;
    Ok(match given {
        Some(id) => u32::try_from(id).ok(),
        None => ready.text.end_id(),
    })
}

fn stop_words(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let Some(json) = fields.get(inputs::STOP_WORDS) else { return Ok(Vec::new()) };
    Elements::of(inputs::STOP_WORDS, json)?
        .iter()
        .map(|json| {
            let allowed = format!("strings of at most {MAX_STOP_WORD_BYTES} bytes");
            read(inputs::STOP_WORDS, json, &allowed, |word: &String| {
                word.len() <= MAX_STOP_WORD_BYTES
            })
        })
        .collect()
}

/// Longer ones would cost much at every token, and cannot be of use.
const MAX_STOP_WORD_BYTES: usize = 1024;

/// How to sample. As in the reference, a request that gives neither `top_k` nor `top_p` is greedy
/// whatever its temperature; `top_p` alone, or a `top_k` of 0, chooses among all tokens.
fn sampling(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    let top_k: Option<u32> =
        one(fields, inputs::TOP_K, "a whole number from 0 to 2147483647", |&top_k| {
            top_k <= i32::MAX as u32
        })?;
    let top_p: Option<f64> =
        one(fields, inputs::TOP_P, "a number up to 1, where 0 and below mean unset", |&top_p| {
            top_p <= 1.0
        })?;
    // Positive stays positive in 32 bits.
    let top_p = top_p.filter(|&top_p| top_p > 0.0).map(|p| (p as f32).max(f32::MIN_POSITIVE));
    let temperature: Option<f64> = one(
        fields,
        inputs::TEMPERATURE,
        "a number above 0, at most 3.4e38",
        |&temperature: &f64| {
            let temperature = temperature as f32;
            temperature > 0.0 && temperature.is_finite()
        },
    )?;
    let seed: Option<u64> =
        one(fields, inputs::SEED, "a whole number from 0 to 18446744073709551615", |_| true)?;
    let top_k = match (top_k, top_p) {
        (Some(1), _) | (None, None) => return Ok(Sampling::GREEDY),
        (top_k, _) => top_k.unwrap_or(0),
    };
    let seed = match seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(ApiError::NoSeed)?,
    };
    Ok(Sampling {
        temperature: temperature.unwrap_or(1.0) as f32,
        top_k,
        top_p: top_p.unwrap_or(1.0),
        seed,
    })
}
