//! Which blocks of the KV cache are free.

/// A block of the KV cache: the same place on every rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// The blocks of the cache, free or promised.
///
/// A sequence that starts reserves all blocks it may ever need, and takes them one by one; so
/// [`BlockPool::take`] never fails for a sequence that was let in.
#[derive(Debug)]
pub struct BlockPool {
    total: usize,
    free: Vec<BlockId>,
    /// Free blocks that are promised to running sequences.
    reserved: usize,
}

impl BlockPool {
    /// A pool with all blocks free; low ones are handed out first.
    #[must_use]
    pub fn new(total: u32) -> Self {
        Self { total: total as usize, free: (0..total).rev().map(BlockId).collect(), reserved: 0 }
    }

    /// Blocks in the cache.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Blocks that no sequence holds, promised ones included.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Promises `blocks` to a sequence, unless others have a claim on them.
    #[must_use]
    pub fn reserve(&mut self, blocks: usize) -> bool {
        let available = self.free.len() - self.reserved;
        let enough = blocks <= available;
        if enough {
            self.reserved += blocks;
        }
        enough
    }

    /// Hands out one promised block.
    ///
    /// # Panics
    /// If none is promised.
    pub fn take(&mut self) -> BlockId {
        self.reserved = self.reserved.checked_sub(1).expect("blocks are reserved before use");
        self.free.pop().expect("reserved blocks are free")
    }

    /// Takes blocks back, and the promise of `unused` more.
    pub fn release(&mut self, blocks: &mut Vec<BlockId>, unused: usize) {
        self.free.append(blocks);
        self.reserved -= unused;
        debug_assert!(self.free.len() <= self.total, "a block was released twice");
    }
}
