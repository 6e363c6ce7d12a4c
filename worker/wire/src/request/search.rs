//! How many sequences a request has, and how they come about.

use serde::{Deserialize, Serialize};

/// Where a request's sequences come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Search {
    /// Sequences that are sampled apart from each other and share the prompt.
    Sample {
        /// How many; at least one. Each has random numbers of its own.
        sequences: u32,
    },
    /// Beam search: the likeliest sequences, found side by side.
    Beam(BeamSearch),
}

/// The parameters of a beam search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeamSearch {
    /// Sequences that are kept at each step; at least 2.
    pub width: u32,
    /// How many of them come back, the best first; at most `width`.
    pub sequences: u32,
    /// A finished sequence's score is its log probability over its generated length to this power.
    pub length_penalty: f32,
    /// Added to the log probabilities of the tokens that follow a beam, times the beam's number.
    pub diversity_rate: f32,
    /// 1: the search ends when `width` sequences have finished. 0: it goes on as long as a beam's present
    /// score, at its present length, beats the worst of those. Any other: as long as a beam could beat it
    /// at any length.
    pub early_stopping: i32,
}

impl Search {
    /// One sequence.
    pub const ONE: Self = Self::Sample { sequences: 1 };

    /// Sequences that come back.
    #[must_use]
    pub fn sequences(&self) -> u32 {
        match self {
            Self::Sample { sequences } => *sequences,
            Self::Beam(beam) => beam.sequences,
        }
    }

    /// Sequences that run at once: places in the batch.
    #[must_use]
    pub fn width(&self) -> u32 {
        match self {
            Self::Sample { sequences } => *sequences,
            Self::Beam(beam) => beam.width,
        }
    }
}
