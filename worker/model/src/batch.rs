//! What one iteration computes, as a backend sees it.

use std::ops::Range;

/// The tokens of one iteration, with where their keys and values live.
///
/// Rows of different sequences follow each other; one sequence's rows are consecutive positions.
/// The vectors are reused from one iteration to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, one a row.
    pub tokens: Vec<u32>,
    /// One span per sequence, in the order of their rows.
    pub spans: Vec<Span>,
    /// Cache blocks of all spans, one after the other.
    pub blocks: Vec<u32>,
    /// Rows whose logits are wanted, ascending.
    pub sampled: Vec<u32>,
}

/// One sequence's share of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its rows.
    pub rows: Range<usize>,
    /// Position in the sequence of its first row; what comes before is in the cache already.
    pub position: usize,
    /// Its blocks, as a range of [`Batch::blocks`]: position p is in block `p / tokens_per_block` of
    /// these, at `p % tokens_per_block`.
    pub blocks: Range<usize>,
}

impl Batch {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.spans.clear();
        self.blocks.clear();
        self.sampled.clear();
    }
}

/// A block of the cache, all layers and heads of it, that is copied to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// The block that is read.
    pub from: u32,
    /// The block that is written.
    pub to: u32,
}
