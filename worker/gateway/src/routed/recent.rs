//! Blocks of prompts that an instance was given lately.

use std::collections::{BTreeMap, HashMap};

use shardrun_wire::BlockHash;

/// The latest block hashes, as many as an instance's cache may well have.
#[derive(Debug, Default)]
pub(super) struct RecentBlocks {
    clock: u64,
    by_hash: HashMap<BlockHash, u64>,
    by_age: BTreeMap<u64, BlockHash>,
}

impl RecentBlocks {
    /// Leading blocks of a prompt that are here.
    pub(super) fn matched(&self, prompt: &[BlockHash]) -> usize {
        prompt.iter().take_while(|hash| self.by_hash.contains_key(hash)).count()
    }

    /// Takes in a prompt's blocks, and forgets the oldest beyond `most`. Of a prompt the last ones go
    /// first: without those before them they are of no use.
    pub(super) fn give(&mut self, prompt: &[BlockHash], most: usize) {
        for &hash in prompt.iter().rev() {
            self.clock += 1;
            if let Some(age) = self.by_hash.insert(hash, self.clock) {
                self.by_age.remove(&age);
            }
            self.by_age.insert(self.clock, hash);
        }
        while self.by_hash.len() > most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_hash.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(numbers: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
        numbers.into_iter().map(BlockHash).collect()
    }

    #[test]
    fn the_longest_unused_go_and_of_a_prompt_the_last_ones() {
        let mut recent = RecentBlocks::default();
        recent.give(&blocks([1, 2]), 4);
        recent.give(&blocks([3, 4]), 4);
        recent.give(&blocks([1, 2]), 4);
        recent.give(&blocks([5]), 4);
        assert_eq!(recent.matched(&blocks([1, 2])), 2);
        assert_eq!(recent.matched(&blocks([3, 4])), 1, "4 went before 3");
        assert_eq!(recent.matched(&blocks([5, 6])), 1);
        recent.give(&blocks(10..20), 4);
        assert_eq!(recent.matched(&blocks(10..20)), 4);
        assert_eq!((recent.by_hash.len(), recent.by_age.len()), (4, 4));
    }
}
