//! Small checked strings.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A SHA-256 digest as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    /// What [`Sha256::parse`] takes, for messages.
    pub const FORM: &'static str = "64 hexadecimal digits";

    /// Takes 64 hexadecimal digits of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What every shared-memory name of a deployment begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShmPrefix(String);

impl ShmPrefix {
    /// What [`ShmPrefix::parse`] takes, for messages.
    pub const FORM: &'static str = "1 to 64 of the characters A-Z a-z 0-9 _ - .";

    /// Takes 1 to 64 of `[A-Za-z0-9_-.]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        valid.then(|| Self(text.to_owned()))
    }

    /// The prefix of all ranks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix of one instance's names, `{prefix}i{instance}_`.
    #[must_use]
    pub fn of_instance(&self, instance: usize) -> String {
        format!("{}i{instance}_", self.0)
    }

    /// The prefix of one rank's names: `{prefix}{rank}_`.
    #[must_use]
    pub fn of_rank(&self, rank: usize) -> String {
        format!("{}{rank}_", self.0)
    }
}

/// What each model is served as: the default one as these, every one as these with `_` and its own name
/// behind. None can be a model's own.
pub(crate) const SERVED_AS: [&str; 3] = ["ensemble", "tensorrt_llm", "tensorrt_llm_bls"];

/// Whether `text` can name a deployment: 1 to 32 of `[a-z0-9_-]`.
pub(crate) fn is_deployment_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

macro_rules! string_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text).ok_or(Self::FORM)
            }
        }
    };
}

string_like!(Sha256);
string_like!(ShmPrefix);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_lower_cased_and_measured() {
        let digest = "AB".repeat(32);
        assert_eq!(Sha256::parse(&digest).unwrap().as_str(), "ab".repeat(32));
        assert!(Sha256::parse(&digest[1..]).is_none());
        assert!(Sha256::parse(&digest.replace('A', "g")).is_none());
    }

    #[test]
    fn a_prefix_can_leave_no_folder() {
        assert_eq!(ShmPrefix::parse("run_7.").unwrap().of_rank(3), "run_7.3_");
        assert!(ShmPrefix::parse("../x").is_none());
        assert!(ShmPrefix::parse("").is_none());
        assert!(ShmPrefix::parse(&"x".repeat(65)).is_none());
    }

    #[test]
    fn deployment_names_are_short_and_plain() {
        assert!(is_deployment_name("smollm2-a_b"));
        for wrong in ["", "Smol", "a b", "a/b", &"x".repeat(33)] {
            assert!(!is_deployment_name(wrong), "{wrong}");
        }
    }
}
