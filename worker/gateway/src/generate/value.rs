//! JSON values as the elements of a tensor: a scalar, or an array of scalars.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ApiError;

/// More elements than any input of text has use for.
const MAX_ELEMENTS: usize = 256;
/// Characters of a client's value that an error repeats.
const SHOWN_CHARS: usize = 60;

/// The elements of one input, each still JSON.
pub(super) struct Elements<'a>(Vec<&'a str>);

impl<'a> Elements<'a> {
    /// The elements of `json`, which is well-formed.
    ///
    /// # Errors
    /// If it is an array with too many.
    pub(super) fn of(field: &'static str, json: &'a str) -> Result<Self, ApiError> {
        if !json.starts_with('[') {
            return Ok(Self(vec![json]));
        }
        let Array(elements) = serde_json::from_str(json).map_err(|_| {
            let allowed = format!("at most {MAX_ELEMENTS} elements");
            ApiError::Invalid { field, value: shown(json), allowed }
        })?;
        Ok(Self(elements))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().copied()
    }

    /// The one element; `None` if there is none.
    ///
    /// # Errors
    /// If there are several.
    pub(super) fn one(&self, field: &'static str) -> Result<Option<&'a str>, ApiError> {
        match self.0[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(ApiError::BadShape { field, count: self.0.len() }),
        }
    }
}

/// Reads one element as a `T` that `holds`.
///
/// # Errors
/// If it isn't one, saying what is `allowed`.
pub(super) fn read<T: DeserializeOwned>(
    field: &'static str,
    json: &str,
    allowed: &str,
    holds: impl FnOnce(&T) -> bool,
) -> Result<T, ApiError> {
    serde_json::from_str(json).ok().filter(holds).ok_or_else(|| ApiError::Invalid {
        field,
        value: shown(json),
        allowed: allowed.to_owned(),
    })
}

/// The beginning of a client's value, for an error.
pub(super) fn shown(json: &str) -> String {
    match json.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &json[..end]),
        None => json.to_owned(),
    }
}

struct Array<'a>(Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Array<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ArrayVisitor).map(Array)
    }
}

struct ArrayVisitor;

impl<'de> Visitor<'de> for ArrayVisitor {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element::<&RawValue>()? {
            if elements.len() == MAX_ELEMENTS {
                return Err(A::Error::custom("too many elements"));
            }
            elements.push(element.get());
        }
        Ok(elements)
    }
}
