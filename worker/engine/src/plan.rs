//! What one iteration does: made by the leader's scheduler, followed by every rank.

use serde::{Deserialize, Serialize};

/// A message of the leader to its followers; written with a borrowed plan, read with an own one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order<P = IterationPlan> {
    /// Run this iteration.
    Run {
        /// What it does.
        plan: P,
        /// What it computes of the rows that the plan names.
        compute: Compute,
    },
    /// Nothing follows.
    Stop,
}

/// What an iteration computes of the rows that its plan names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compute {
    /// All logits.
    Logits,
    /// Only which token is the likeliest.
    Best,
}

/// One iteration. Sequences come in the order of their rows in the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IterationPlan {
    /// Counts iterations, from 1.
    pub step: u64,
    /// Blocks that are copied before anything else, `(from, to)`, in this order.
    pub copies: Vec<(u32, u32)>,
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
    /// Which block table of the slot this is; a new one starts empty.
    pub generation: u32,
    /// Position of its first token.
    pub position: u32,
    /// How many of [`IterationPlan::tokens`] are its own.
    pub tokens: u32,
    /// Blocks of its table that stay; those after them go.
    pub kept_blocks: u32,
    /// How many of [`IterationPlan::blocks`] are then added to its table.
    pub new_blocks: u32,
    /// Which of its rows give logits, or the best token.
    pub logits: Rows,
}

/// Some of a sequence's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rows {
    /// No row.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

impl IterationPlan {
    /// Empties the plan and keeps its memory.
    pub fn clear(&mut self) {
        self.copies.clear();
        self.sequences.clear();
        self.tokens.clear();
        self.blocks.clear();
    }
}

/// The longest order in bytes that a deployment with these limits can give: block tables may share
/// blocks, and are sent anew when beams change places.
#[must_use]
pub fn longest_order(max_batch_size: usize, max_num_tokens: usize, blocks_a_table: usize) -> usize {
    // postcard's numbers take 5 bytes at most for 32 bits, 10 for 64; a sequence has six and a choice.
    let sequence = 6 * 5 + 1 + 2 * 5 + 5 * blocks_a_table;
    64 + max_batch_size * sequence + 5 * max_num_tokens
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_order_is_long_enough() {
        const MOST: u32 = u32::MAX;
        let sequence = SequencePlan {
            slot: MOST,
            generation: MOST,
            position: MOST,
            tokens: MOST,
            kept_blocks: MOST,
            new_blocks: MOST,
            logits: Rows::All,
        };
        let plan = IterationPlan {
            step: u64::MAX,
            copies: vec![(MOST, MOST); 7],
            sequences: vec![sequence; 7],
            tokens: vec![MOST; 300],
            blocks: vec![MOST; 7 * 20],
        };
        let order = Order::Run { plan, compute: Compute::Best };
        let bytes = postcard::to_stdvec(&order).unwrap();
        assert!(bytes.len() <= longest_order(7, 300, 20));
        assert_eq!(postcard::from_bytes::<Order>(&bytes).unwrap(), order);
    }
}
