//! Blocks in the order of a key.

use super::BlockId;

/// A binary heap of blocks that also finds a block by its id. Its arrays are as long as they will ever be
/// from the start, so no operation allocates. `set` and `remove` cost O(log n) of the blocks in it, all
/// else O(1).
#[derive(Debug)]
pub(super) struct BlockHeap<K> {
    entries: Vec<(K, BlockId)>,
    /// Where in `entries` each block is; `ABSENT` if it isn't.
    places: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl<K: Ord + Copy> BlockHeap<K> {
    /// An empty heap for blocks below `blocks`.
    pub(super) fn new(blocks: u32) -> Self {
        let blocks = blocks as usize;
        Self { entries: Vec::with_capacity(blocks), places: vec![ABSENT; blocks] }
    }

    /// The block with the least key.
    pub(super) fn first(&self) -> Option<(K, BlockId)> {
        self.entries.first().copied()
    }

    /// Puts a block in, or to another place if it is in.
    pub(super) fn set(&mut self, block: BlockId, key: K) {
        let place = match self.places[block.index()] {
            ABSENT => {
                self.entries.push((key, block));
                self.entries.len() - 1
            }
            place => {
                self.entries[place as usize].0 = key;
                place as usize
            }
        };
        self.settle(place);
    }

    /// Takes a block out, if it is in.
    pub(super) fn remove(&mut self, block: BlockId) {
        let place = self.places[block.index()];
        if place == ABSENT {
            return;
        }
        self.places[block.index()] = ABSENT;
        let place = place as usize;
        self.entries.swap_remove(place);
        if place < self.entries.len() {
            self.settle(place);
        }
    }

    /// Moves the entry at `place`, the only one that may be out of order, up or down.
    fn settle(&mut self, mut place: usize) {
        let entry = self.entries[place];
        while place > 0 && entry.0 < self.entries[(place - 1) / 2].0 {
            self.put(place, self.entries[(place - 1) / 2]);
            place = (place - 1) / 2;
        }
        while let Some(child) = self.lesser_child(place)
            && self.entries[child].0 < entry.0
        {
            self.put(place, self.entries[child]);
            place = child;
        }
        self.put(place, entry);
    }

    fn lesser_child(&self, place: usize) -> Option<usize> {
        let (left, right) = (2 * place + 1, 2 * place + 2);
        match (self.entries.get(left), self.entries.get(right)) {
            (Some(l), Some(r)) if r.0 < l.0 => Some(right),
            (Some(_), _) => Some(left),
            (None, _) => None,
        }
    }

    fn put(&mut self, place: usize, entry: (K, BlockId)) {
        self.entries[place] = entry;
        self.places[entry.1.index()] = place as u32;
    }
}

#[cfg(test)]
impl<K> BlockHeap<K> {
    pub(super) fn contains(&self, block: BlockId) -> bool {
        self.places[block.index()] != ABSENT
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_orders_blocks_as_a_sorted_map_does(
            changes in prop::collection::vec((0_u32..40, prop::option::of(0_u8..20)), 0..300),
        ) {
            let mut heap = BlockHeap::new(40);
            let mut map = BTreeMap::new();
            for (block, key) in changes {
                match key {
                    Some(key) => {
                        heap.set(BlockId(block), (key, block));
                        map.insert(block, key);
                    }
                    None => {
                        heap.remove(BlockId(block));
                        map.remove(&block);
                    }
                }
                prop_assert_eq!(heap.contains(BlockId(block)), map.contains_key(&block));
                let least = map.iter().map(|(&block, &key)| (key, block)).min();
                prop_assert_eq!(heap.first(), least.map(|key| (key, BlockId(key.1))));
            }
        }
    }
}
