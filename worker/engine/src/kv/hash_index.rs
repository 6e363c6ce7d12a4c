//! Which block in the tree has which hash.

use std::hash::{BuildHasher, RandomState};

use shardrun_wire::BlockHash;

use super::BlockId;

/// A hash table whose chains run through an array with a place for every block: unlike a map with open
/// addresses it neither grows nor has to be tidied up after removals, so no operation allocates or pauses.
/// Buckets are keyed anew in each process, since clients choose the tokens that block hashes come from.
/// Every operation is O(1) on average.
#[derive(Debug)]
pub(super) struct HashIndex {
    /// The first block of each chain; a power of two of them.
    heads: Vec<Option<BlockId>>,
    /// Of each block the next one of its chain.
    next: Vec<Option<BlockId>>,
    /// Of each block its hash.
    hashes: Vec<BlockHash>,
    keys: RandomState,
}

impl HashIndex {
    /// An empty index for blocks below `blocks`.
    pub(super) fn new(blocks: u32) -> Self {
        let blocks = blocks as usize;
        Self {
            heads: vec![None; blocks.next_power_of_two()],
            next: vec![None; blocks],
            hashes: vec![BlockHash(0); blocks],
            keys: RandomState::new(),
        }
    }

    /// The block with this hash.
    pub(super) fn get(&self, hash: BlockHash) -> Option<BlockId> {
        let mut at = self.heads[self.bucket(hash)];
        while let Some(block) = at {
            if self.hashes[block.index()] == hash {
                return Some(block);
            }
            at = self.next[block.index()];
        }
        None
    }

    /// The hash of a block that is in.
    pub(super) fn hash(&self, block: BlockId) -> BlockHash {
        self.hashes[block.index()]
    }

    /// Puts a block in that is not in, under a hash that no other has.
    pub(super) fn insert(&mut self, block: BlockId, hash: BlockHash) {
        let bucket = self.bucket(hash);
        self.hashes[block.index()] = hash;
        self.next[block.index()] = self.heads[bucket].replace(block);
    }

    /// Takes a block out that is in.
    pub(super) fn remove(&mut self, block: BlockId) {
        let after = self.next[block.index()].take();
        let bucket = self.bucket(self.hash(block));
        let mut link = &mut self.heads[bucket];
        while let Some(at) = *link
            && at != block
        {
            link = &mut self.next[at.index()];
        }
        debug_assert_eq!(*link, Some(block), "only blocks that are in are removed");
        *link = after;
    }

    fn bucket(&self, hash: BlockHash) -> usize {
        self.keys.hash_one(hash.0) as usize & (self.heads.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_until_they_are_removed() {
        let mut index = HashIndex::new(100);
        let hash = |block: u32| BlockHash(u64::from(block) << 40);
        for block in 0..100 {
            index.insert(BlockId(block), hash(block));
        }
        for block in (0..100).step_by(3) {
            index.remove(BlockId(block));
        }
        for block in 0..100 {
            let expected = (block % 3 != 0).then_some(BlockId(block));
            assert_eq!(index.get(hash(block)), expected);
        }
    }
}
