//! What was found.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grade {
    Ok,
    /// It may do harm.
    Warning,
    /// It can't work so.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) grade: Grade,
    /// One line.
    pub(crate) found: String,
    /// What to do, unless all is well.
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn ok(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), grade: Grade::Ok, found: found.into(), advice: None }
    }

    pub(crate) fn warning(what: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { grade: Grade::Warning, advice, ..Self::ok(what, found) }
    }

    pub(crate) fn failure(what: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { grade: Grade::Failure, advice, ..Self::ok(what, found) }
    }
}

impl Grade {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}
