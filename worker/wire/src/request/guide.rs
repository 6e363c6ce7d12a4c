//! What a generated text must be like.

use serde::{Deserialize, Serialize};

/// A language that the generated text, with its end, belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guide {
    /// Any JSON object.
    Json,
    /// JSON that this schema describes.
    JsonSchema(String),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// Text of this grammar: EBNF with `root ::= ...`, or Lark with `start: ...`.
    Grammar(String),
}
