//! How long blocks stay in the cache after their request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How dear a block is when another must go: 0 goes first, 100 last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RetentionPriority(pub u8);

impl RetentionPriority {
    /// Of blocks whose request says nothing.
    pub const DEFAULT: Self = Self(35);
    /// The dearest.
    pub const MAX: Self = Self(100);
}

/// How dear the blocks of a request are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Parts of the prompt, without overlap.
    pub ranges: Vec<RetainedRange>,
    /// Of blocks with generated tokens.
    pub decode_priority: RetentionPriority,
    /// For how long they keep that after the request; then they have the default.
    pub decode_duration: Option<Duration>,
}

/// How dear the blocks of a part of the prompt are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedRange {
    /// First token.
    pub start: u32,
    /// One past the last token; `None` to the prompt's end.
    pub end: Option<u32>,
    /// Of its blocks.
    pub priority: RetentionPriority,
    /// For how long they keep that after the request; then they have the default.
    pub duration: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            decode_priority: RetentionPriority::DEFAULT,
            decode_duration: None,
        }
    }
}
