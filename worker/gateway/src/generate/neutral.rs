//! Inputs of the reference that this server does not act on. The value that asks for nothing is
//! taken, since many clients send every input; any other is refused, since acting as if
//! it were not there would give another answer than the one asked for.

use super::value::{Elements, MAX_ELEMENTS, shown};
use crate::error::ApiError;

/// The values that ask for nothing; no elements are always one of them.
#[derive(Clone, Copy)]
pub(super) enum Neutral {
    Zero,
    AnyNumber,
    False,
    EmptyText,
    NoElements,
    /// This text.
    Text(&'static str),
}

impl Neutral {
    /// Checks that an input asks for nothing.
    ///
    /// # Errors
    /// [`ApiError::Unsupported`] if it asks for something.
    pub(super) fn check(self, field: &'static str, json: &str) -> Result<(), ApiError> {
        let elements = Elements::of(field, json, MAX_ELEMENTS)?;
        if elements.iter().all(|element| self.holds(element)) {
            return Ok(());
        }
        Err(ApiError::Unsupported { field, value: shown(json), accepted: self.accepted() })
    }

    fn holds(self, json: &str) -> bool {
        match self {
            Self::Zero => serde_json::from_str::<f64>(json).is_ok_and(|number| number == 0.0),
            Self::AnyNumber => serde_json::from_str::<f64>(json).is_ok(),
            Self::False => json == "false",
            Self::EmptyText => json == "\"\"",
            Self::NoElements => false,
            Self::Text(text) => {
                serde_json::from_str::<String>(json).is_ok_and(|given| given == text)
            }
        }
    }

    fn accepted(self) -> &'static str {
        match self {
            Self::Zero => "0",
            Self::AnyNumber => "a number",
            Self::False => "false",
            Self::EmptyText => "empty text",
            Self::NoElements => "an empty array",
            Self::Text(text) => text,
        }
    }
}
