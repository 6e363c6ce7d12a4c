//! What one iteration does: made by the leader's scheduler, followed by every rank.

use serde::{Deserialize, Serialize};

/// A message of the leader to its followers; written with a borrowed plan, read with an own one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order<P = IterationPlan> {
    /// Run this iteration.
    Run(P),
    /// Nothing follows.
    Stop,
}

/// One iteration. Sequences come in the order of their rows in the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IterationPlan {
    /// Counts iterations, from 1.
    pub step: u64,
    /// What each sequence does.
    pub sequences: Vec<SequencePlan>,
    /// Tokens of all sequences, one after the other.
    pub tokens: Vec<u32>,
    /// KV blocks that sequences receive, one after the other.
    pub blocks: Vec<u32>,
}

/// One sequence's share of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencePlan {
    /// Where ranks keep its block table.
    pub slot: u32,
    /// Which user of the slot this is; a new one starts with an empty block table.
    pub generation: u32,
    /// Position of its first token.
    pub position: u32,
    /// How many of [`IterationPlan::tokens`] are its own.
    pub tokens: u32,
    /// How many of [`IterationPlan::blocks`] are added to its table.
    pub blocks: u32,
    /// Whether the token after its last one is sampled.
    pub sample: bool,
}

impl IterationPlan {
    /// Empties the plan and keeps its memory.
    pub fn clear(&mut self) {
        self.sequences.clear();
        self.tokens.clear();
        self.blocks.clear();
    }
}

/// The longest order in bytes that a deployment with these limits can give.
#[must_use]
pub fn longest_order(max_batch_size: usize, max_num_tokens: usize, kv_blocks: usize) -> usize {
    // postcard's numbers take 5 bytes at most for 32 bits, 10 for 64; a sequence has five and a flag.
    64 + max_batch_size * (5 * 5 + 1) + 5 * max_num_tokens + 5 * kv_blocks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_order_is_long_enough() {
        let sequence = SequencePlan {
            slot: u32::MAX,
            generation: u32::MAX,
            position: u32::MAX,
            tokens: u32::MAX,
            blocks: u32::MAX,
            sample: true,
        };
        let order = Order::Run(IterationPlan {
            step: u64::MAX,
            sequences: vec![sequence; 7],
            tokens: vec![u32::MAX; 300],
            blocks: vec![u32::MAX; 20],
        });
        let bytes = postcard::to_stdvec(&order).unwrap();
        assert!(bytes.len() <= longest_order(7, 300, 20));
        assert_eq!(postcard::from_bytes::<Order>(&bytes).unwrap(), order);
    }
}
