//! How tokens are chosen.

use shardrun_wire::{EngineLimits, Sampling};

use super::{MAX_INT32, token_id};
use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;

const POSITIVE: &str = "a number above 0, at most 3.4e38";
const FINITE: &str = "a number from -3.4e38 to 3.4e38";
const SHARE: &str = "a number above 0, at most 1";

/// How to sample. As in the reference, a request that gives neither `top_k` nor `top_p` is greedy
/// whatever its temperature; `top_p` alone, or a `top_k` of 0, chooses among all tokens.
pub(super) fn read(fields: &Fields<'_>, limits: &EngineLimits) -> Result<Sampling, ApiError> {
    let number = |key, allowed, holds: fn(f32) -> bool| fields.field(key).number(allowed, holds);
    let positive = |key| number(key, POSITIVE, |number| number > 0.0);
    let finite = |key| number(key, FINITE, |_| true);
    let share = |key| number(key, SHARE, |share| share > 0.0 && share <= 1.0);
    let whole = |key| fields.field(key).whole(0, MAX_INT32);

    let top_p = top_p(fields)?;
    let top_k = match whole(Key::TopK)? {
        Some(top_k) => top_k,
        None if top_p.is_some() => 0,
        None => 1,
    };
    let greedy = Sampling::GREEDY;
    let mut sampling = Sampling {
        temperature: positive(Key::Temperature)?.unwrap_or(greedy.temperature),
        top_k,
        top_p: top_p.unwrap_or(greedy.top_p),
        top_p_decay: share(Key::TopPDecay)?.unwrap_or(greedy.top_p_decay),
        top_p_min: share(Key::TopPMin)?.unwrap_or(greedy.top_p_min),
        top_p_reset_id: token_id(fields.field(Key::TopPResetId), limits)?.flatten(),
        min_p: number(Key::MinP, "a number from 0 to 1", |p| (0.0..=1.0).contains(&p))?
            .unwrap_or(greedy.min_p),
        repetition_penalty: positive(Key::RepetitionPenalty)?.unwrap_or(greedy.repetition_penalty),
        presence_penalty: finite(Key::PresencePenalty)?.unwrap_or(greedy.presence_penalty),
        frequency_penalty: finite(Key::FrequencyPenalty)?.unwrap_or(greedy.frequency_penalty),
        no_repeat_ngram_size: whole(Key::NoRepeatNgramSize)?.unwrap_or(greedy.no_repeat_ngram_size),
        min_tokens: whole(Key::MinTokens)?.unwrap_or(greedy.min_tokens),
        seed: greedy.seed,
    };
    match fields.field(Key::Seed).whole(0, u64::MAX)? {
        Some(seed) => sampling.seed = seed,
        None if sampling.greedy() => {}
        None => sampling.seed = getrandom::u64().map_err(ApiError::NoSeed)?,
    }
    Ok(sampling)
}

fn top_p(fields: &Fields<'_>) -> Result<Option<f32>, ApiError> {
    let allowed = "a number up to 1, where 0 and below mean unset";
    let top_p: Option<f64> = fields.field(Key::TopP).one(allowed, |&top_p| top_p <= 1.0)?;
    // Positive stays positive in 32 bits.
    Ok(top_p.filter(|&top_p| top_p > 0.0).map(|p| (p as f32).max(f32::MIN_POSITIVE)))
}
