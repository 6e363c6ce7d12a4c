//! Typed access to metadata. `require_` treats an absent key as an error, `optional_` as `None`; a
//! value of the wrong type is an error in both.

use super::{Array, Gguf, Value};
use crate::FileError;

impl Gguf {
    /// The value of `key`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// An integer of any width that fits.
    ///
    /// # Errors
    /// If it is absent, no integer, or beyond a u32.
    pub fn require_u32(&self, key: &str) -> Result<u32, FileError> {
        self.optional_u32(key)?.ok_or_else(|| self.no_key(key))
    }

    /// A float; an f64 is rounded.
    ///
    /// # Errors
    /// If it is absent or no float.
    pub fn require_f32(&self, key: &str) -> Result<f32, FileError> {
        self.optional_f32(key)?.ok_or_else(|| self.no_key(key))
    }

    /// A string.
    ///
    /// # Errors
    /// If it is absent or no string.
    pub fn require_str(&self, key: &str) -> Result<&str, FileError> {
        self.optional_str(key)?.ok_or_else(|| self.no_key(key))
    }

    /// An array of strings.
    ///
    /// # Errors
    /// If it is absent or no array of strings.
    pub fn require_strings(&self, key: &str) -> Result<&[String], FileError> {
        match self.metadata(key) {
            None => Err(self.no_key(key)),
            Some(Value::Array(Array::String(strings))) => Ok(strings),
            Some(other) => Err(self.key_type(key, other, "an array of strings")),
        }
    }

    /// An integer of any width that fits, if the key is there.
    ///
    /// # Errors
    /// If it is no integer, or beyond a u32.
    pub fn optional_u32(&self, key: &str) -> Result<Option<u32>, FileError> {
        let Some(value) = self.metadata(key) else { return Ok(None) };
        let number = value.integer().ok_or_else(|| self.key_type(key, value, "an integer"))?;
        self.fit_u32(key, number).map(Some)
    }

    /// Integers of any width that fit, if the key is there.
    ///
    /// # Errors
    /// If it is no array of integers, or one of them is beyond a u32.
    pub fn optional_u32s(&self, key: &str) -> Result<Option<Vec<u32>>, FileError> {
        let numbers = match self.metadata(key) {
            None => return Ok(None),
            Some(Value::Array(array)) => array.integers(),
            Some(_) => None,
        };
        let Some(numbers) = numbers else {
            let found = self.metadata(key).expect("an absent key has returned");
            return Err(self.key_type(key, found, "an array of integers"));
        };
        numbers.into_iter().map(|n| self.fit_u32(key, n)).collect::<Result<_, _>>().map(Some)
    }

    /// A float, if the key is there; an f64 is rounded.
    ///
    /// # Errors
    /// If it is no float.
    pub fn optional_f32(&self, key: &str) -> Result<Option<f32>, FileError> {
        match self.metadata(key) {
            None => Ok(None),
            Some(&Value::F32(number)) => Ok(Some(number)),
            Some(&Value::F64(number)) => Ok(Some(number as f32)),
            Some(other) => Err(self.key_type(key, other, "a float")),
        }
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// If it is no string.
    pub fn optional_str(&self, key: &str) -> Result<Option<&str>, FileError> {
        match self.metadata(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.key_type(key, other, "a string")),
        }
    }

    /// A truth value, if the key is there.
    ///
    /// # Errors
    /// If it is no bool.
    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>, FileError> {
        match self.metadata(key) {
            None => Ok(None),
            Some(&Value::Bool(truth)) => Ok(Some(truth)),
            Some(other) => Err(self.key_type(key, other, "a bool")),
        }
    }

    fn fit_u32(&self, key: &str, value: i128) -> Result<u32, FileError> {
        u32::try_from(value).map_err(|_| FileError::KeyRange {
            path: self.path.clone(),
            key: key.to_owned(),
            value,
        })
    }

    fn no_key(&self, key: &str) -> FileError {
        FileError::NoKey { path: self.path.clone(), key: key.to_owned() }
    }

    fn key_type(&self, key: &str, found: &Value, wanted: &'static str) -> FileError {
        FileError::KeyType {
            path: self.path.clone(),
            key: key.to_owned(),
            found: found.type_name().to_owned(),
            wanted,
        }
    }
}
