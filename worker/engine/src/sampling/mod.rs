//! Choosing tokens from rows of logits.
//!
//! ```text
//! logits ──process──> scores ──shortlist──> candidates ──draw──> token
//! ```
//!
//! A choice is a pure function of the logits, the request and the sequence's tokens. What is kept
//! between calls is memory, never state: so a request that was paused, or goes on elsewhere, gets the
//! tokens that it would have got. Nothing here knows of batches, blocks or clients.

mod draw;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod golden;
mod process;
mod sampler;
mod scan;
mod shortlist;
mod weights;

pub use sampler::{Candidate, Sampled, Sampler, SequenceView};
