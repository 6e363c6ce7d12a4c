//! JSON values as the elements of a tensor: a scalar, or an array of scalars.

use std::fmt::{self, Display};

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ApiError;

/// More elements than most inputs have use for.
pub(super) const MAX_ELEMENTS: usize = 256;
/// Characters of a client's value that an error repeats.
const SHOWN_CHARS: usize = 60;

/// One input of a request, by the name that the client knows.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    /// Well-formed; `None` if the request does not have it.
    pub(super) json: Option<&'a str>,
}

impl<'a> Field<'a> {
    /// The one element, if there is one.
    ///
    /// # Errors
    /// If there are several, or it isn't a `T` that `holds`: then with what is `allowed`.
    pub(super) fn one<T: DeserializeOwned>(
        self,
        allowed: impl Display,
        holds: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>, ApiError> {
        let Some(json) = self.json else { return Ok(None) };
        let element = Elements::of(self.name, json, MAX_ELEMENTS)?.one(self.name)?;
        element.map(|json| read(self.name, json, allowed, holds)).transpose()
    }

    /// The one element, a boolean; false if there is none.
    ///
    /// # Errors
    /// If there are several, or it is none.
    pub(super) fn flag(self) -> Result<bool, ApiError> {
        Ok(self.one("true or false", |_| true)?.unwrap_or(false))
    }

    /// The one element, a whole number in a range.
    ///
    /// # Errors
    /// If there are several, or it is none.
    pub(super) fn whole<T>(self, least: T, most: T) -> Result<Option<T>, ApiError>
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        let allowed = format!("a whole number from {least} to {most}");
        self.one(allowed, |number| (least..=most).contains(number))
    }

    /// The one element, a number that `holds` in 32 bits.
    ///
    /// # Errors
    /// If there are several, or it isn't `allowed`.
    pub(super) fn number(
        self,
        allowed: &str,
        holds: impl FnOnce(f32) -> bool,
    ) -> Result<Option<f32>, ApiError> {
        let number = self.one(allowed, |&number: &f64| {
            let number = number as f32;
            number.is_finite() && holds(number)
        })?;
        Ok(number.map(|number| number as f32))
    }

    /// All elements, at most `most`; none if the input is missing.
    ///
    /// # Errors
    /// If there are more, or one isn't a `T` that `holds`.
    pub(super) fn list<T: DeserializeOwned>(
        self,
        most: usize,
        allowed: impl Display + Copy,
        holds: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, ApiError> {
        let Some(json) = self.json else { return Ok(Vec::new()) };
        let elements = Elements::of(self.name, json, most)?;
        elements.iter().map(|json| read(self.name, json, allowed, &holds)).collect()
    }

    /// An error about this input: `value` is not what is `allowed`.
    pub(super) fn invalid(self, value: impl Display, allowed: impl Display) -> ApiError {
        let (value, allowed) = (shown(&value.to_string()), allowed.to_string());
        ApiError::Invalid { field: self.name, value, allowed }
    }

    /// An error about the input as it stands: it is not what is `allowed`.
    pub(super) fn refused(self, allowed: impl Display) -> ApiError {
        self.invalid(self.json.unwrap_or("missing"), allowed)
    }

    /// An error: the request needs it.
    pub(super) fn missing(self) -> ApiError {
        ApiError::Missing { field: self.name }
    }
}

/// The elements of one input, each still JSON.
pub(super) struct Elements<'a>(Vec<&'a str>);

impl<'a> Elements<'a> {
    /// The elements of `json`, which is well-formed.
    ///
    /// # Errors
    /// If it is an array with more than `most`.
    pub(super) fn of(field: &'static str, json: &'a str, most: usize) -> Result<Self, ApiError> {
        if !json.starts_with('[') {
            return Ok(Self(vec![json]));
        }
        let mut array = serde_json::Deserializer::from_str(json);
        let elements = Array { most }.deserialize(&mut array).map_err(|_| {
            let allowed = format!("at most {most} elements");
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
    fn one(&self, field: &'static str) -> Result<Option<&'a str>, ApiError> {
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
    allowed: impl Display,
    holds: impl FnOnce(&T) -> bool,
) -> Result<T, ApiError> {
    serde_json::from_str(json).ok().filter(holds).ok_or_else(|| ApiError::Invalid {
        field,
        value: shown(json),
        allowed: allowed.to_string(),
    })
}

/// The beginning of a client's value, for an error.
pub(crate) fn shown(json: &str) -> String {
    match json.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &json[..end]),
        None => json.to_owned(),
    }
}

/// Reads an array of at most so many elements.
struct Array {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Array {
    type Value = Vec<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Array {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element::<&RawValue>()? {
            if elements.len() == self.most {
                return Err(A::Error::custom("too many elements"));
            }
            elements.push(element.get());
        }
        Ok(elements)
    }
}
