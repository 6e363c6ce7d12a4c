//! Words that stop, that are not allowed, or that are likelier than the model says.

use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;
use crate::generate::value::{Elements, Field, MAX_ELEMENTS};

/// Longer ones would cost much at every token, and cannot be of use.
pub(super) const MAX_WORD_BYTES: usize = 1024;
/// Elements of a word list in tokens, both rows together.
const MAX_LIST_ELEMENTS: usize = 8192;

/// Words as text; empty ones are of no use and left out.
pub(super) fn strings(field: Field<'_>) -> Result<Vec<String>, ApiError> {
    let mut words = short_strings(field)?;
    words.retain(|word| !word.is_empty());
    Ok(words)
}

fn short_strings(field: Field<'_>) -> Result<Vec<String>, ApiError> {
    let allowed = format!("strings of at most {MAX_WORD_BYTES} bytes");
    field.list(MAX_ELEMENTS, &*allowed, |word: &String| word.len() <= MAX_WORD_BYTES)
}

/// `embedding_bias_words`, each with its weight.
pub(super) fn biased(fields: &Fields<'_>) -> Result<Vec<(String, f32)>, ApiError> {
    let words = short_strings(fields.field(Key::EmbeddingBiasWords))?;
    let field = fields.field(Key::EmbeddingBiasWeights);
    let weights = bias(field, MAX_ELEMENTS)?;
    // What clients send that send every input.
    if weights.is_empty() && words.iter().all(String::is_empty) {
        return Ok(Vec::new());
    }
    if words.len() != weights.len() {
        let allowed = format!("as many as embedding_bias_words, {}", words.len());
        return Err(field.refused(allowed));
    }
    Ok(words.into_iter().zip(weights).filter(|(word, _)| !word.is_empty()).collect())
}

/// A bias for every token of the vocabulary, as those that are not zero; none if it is empty.
pub(super) fn dense_bias(field: Field<'_>, vocab_size: u32) -> Result<Vec<(u32, f32)>, ApiError> {
    let biases = bias(field, vocab_size as usize)?;
    if !biases.is_empty() && biases.len() != vocab_size as usize {
        let allowed = format!("a number for each of the {vocab_size} tokens of the vocabulary");
        return Err(field.refused(allowed));
    }
    Ok((0..).zip(biases).filter(|&(_, bias)| bias != 0.0).collect())
}

fn bias(field: Field<'_>, most: usize) -> Result<Vec<f32>, ApiError> {
    let numbers =
        field.list(most, "numbers up to 3.4e38", |&bias: &f64| (bias as f32).is_finite())?;
    Ok(numbers.into_iter().map(|bias| bias as f32).collect())
}

/// Words as tokens. The reference's layout: a row of all words' tokens, and a row of the same length
/// with the position after each word, filled up with -1. The rows may come nested or one after the
/// other.
pub(super) fn token_lists(field: Field<'_>, vocab_size: u32) -> Result<Vec<Vec<u32>>, ApiError> {
    let Some(json) = field.json else { return Ok(Vec::new()) };
    let elements = Elements::of(field.name, json, MAX_LIST_ELEMENTS)?;
    let rows: Vec<&str> = elements.iter().collect();
    let nested = |row: &&str| row.starts_with('[');
    let row = |json| Field { json: Some(json), ..field }.list(MAX_LIST_ELEMENTS, INTEGERS, any);
    let (ids, ends): (Vec<i32>, Vec<i32>) = match rows[..] {
        [ids, ends] if nested(&ids) && nested(&ends) => (row(ids)?, row(ends)?),
        _ if rows.iter().any(nested) => return Err(field.refused(TWO_ROWS)),
        _ => {
            let mut ids = row(json)?;
            let ends = ids.split_off(ids.len().div_ceil(2));
            (ids, ends)
        }
    };
    if ids.len() != ends.len() {
        return Err(field.refused(TWO_ROWS));
    }
    let words = ends.iter().rposition(|&end| end != -1).map_or(0, |last| last + 1);
    let mut start = 0;
    ends[..words]
        .iter()
        .map(|&end| {
            let range = usize::try_from(end).ok().filter(|&end| end > start).map(|end| start..end);
            let Some(word) = range.and_then(|range| ids.get(range)) else {
                let allowed =
                    format!("ends of words that rise from 1 to at most {}, then -1", ids.len());
                return Err(field.invalid(end, allowed));
            };
            start += word.len();
            word.iter()
                .map(|&id| {
                    let token = u32::try_from(id).ok().filter(|&id| id < vocab_size);
                    let allowed = || field.invalid(id, format!("tokens below {vocab_size}"));
                    token.ok_or_else(allowed)
                })
                .collect()
        })
        .collect()
}

const INTEGERS: &str = "whole numbers of 32 bits";
const TWO_ROWS: &str = "two rows of the same length: tokens, and where each word ends";

fn any(_: &i32) -> bool {
    true
}
