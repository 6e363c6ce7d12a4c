//! What a request asks for, checked for everything that needs neither engine nor tokenizer.

mod content;
mod delivery;
mod guide;
mod retention;
mod sampling;
mod scheduling;
mod search;
mod words;

use shardrun_wire::{EngineLimits, Guide, Retention, Sampling, Search};

pub(super) use content::Content;
pub(super) use delivery::Delivery;
pub(super) use scheduling::Scheduling;

use super::fields::Fields;
use super::inputs::Key;
use super::value::Field;
use crate::error::ApiError;
use crate::models::Ready;
use crate::served::Served;

/// One request to generate.
pub(super) struct Parameters {
    /// The client's name for it; empty if it has none.
    pub(super) id: String,
    /// The prompt, and words that matter.
    pub(super) content: Content,
    /// At least 1.
    pub(super) max_tokens: u32,
    pub(super) end_id: Option<u32>,
    pub(super) sampling: Sampling,
    pub(super) search: Search,
    pub(super) guide: Option<Guide>,
    pub(super) retention: Retention,
    pub(super) scheduling: Scheduling,
    pub(super) delivery: Delivery,
}

impl Parameters {
    /// What `fields` say.
    ///
    /// # Errors
    /// Naming the field, its value and what is allowed.
    pub(super) fn read(fields: &Fields<'_>, ready: &Ready) -> Result<Self, ApiError> {
        let limits = &ready.limits;
        let content = Content::read(fields, limits)?;
        let max_tokens = fields.field(Key::MaxTokens);
        let search = search::read(fields, limits)?;
        // There is nothing to pad.
        let _: Option<i32> = fields.field(Key::PadId).one("a whole number of 32 bits", |_| true)?;
        Ok(Self {
            id: fields.id.clone(),
            content,
            // The reference's 32-bit signed integers.
            max_tokens: max_tokens.whole(1, MAX_INT32)?.ok_or_else(|| max_tokens.missing())?,
            end_id: end_id(fields, ready)?,
            sampling: sampling::read(fields, limits)?,
            guide: guide::read(fields, &search)?,
            search,
            retention: retention::read(fields)?,
            scheduling: Scheduling::read(fields)?,
            delivery: Delivery::read(fields)?,
        })
    }
}

const MAX_INT32: u32 = i32::MAX as u32;

/// The token that ends a sequence. Of the models that take text it is the tokenizer's, unless the
/// request names another; of the one that takes tokens there is none then.
fn end_id(fields: &Fields<'_>, ready: &Ready) -> Result<Option<u32>, ApiError> {
    match token_id(fields.field(Key::EndId), &ready.limits)? {
        Some(given) => Ok(given),
        None if fields.served == Served::Llm => Ok(None),
        None => Ok(ready.text.end_id()),
    }
}

/// A token that a request names, or with a negative number says that there is none.
fn token_id(field: Field<'_>, limits: &EngineLimits) -> Result<Option<Option<u32>>, ApiError> {
    let vocab_size = limits.vocab_size;
    let allowed = format!("a token below {vocab_size}, or a negative number for none");
    let given = field
        .one(allowed, |&id: &i32| u32::try_from(id).is_ok_and(|id| id < vocab_size) || id < 0)?;
    Ok(given.map(|id| u32::try_from(id).ok()))
}
