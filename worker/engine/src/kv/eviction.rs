//! Which cached block goes first.

use std::time::Duration;

use shardrun_wire::RetentionPriority;

use super::BlockId;
use super::block_heap::BlockHeap;

/// How dear a cached block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRetention {
    /// Blocks of lower priority are evicted first.
    pub priority: RetentionPriority,
    /// How long it keeps the priority after its last holder has let go; `None` for ever.
    pub duration: Option<Duration>,
}

impl Default for BlockRetention {
    fn default() -> Self {
        Self { priority: RetentionPriority::DEFAULT, duration: None }
    }
}

impl BlockRetention {
    /// Whether a block is dearer so than with `other`, or as dear for longer.
    pub(super) fn exceeds(self, other: Self) -> bool {
        let rank = |retention: Self| {
            let duration = retention.duration.unwrap_or(Duration::MAX);
            (retention.priority, duration)
        };
        rank(self) > rank(other)
    }
}

/// The idle blocks in the order in which they are evicted.
///
/// The order is a heap and not a list for each priority: a block that becomes the last of its path comes
/// back at the place of its own release, which may be anywhere in a list, and timers need a heap anyway.
#[derive(Debug)]
pub(super) struct IdleBlocks {
    entries: Vec<Entry>,
    /// Idle blocks without idle children, by priority, then by release.
    queue: BlockHeap<(RetentionPriority, u64)>,
    /// Idle blocks whose retention ends, by when.
    timers: BlockHeap<Duration>,
    now: Duration,
    /// Counts releases.
    releases: u64,
}

/// What is known of a block in the tree.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    retention: BlockRetention,
    /// When it was released, if it is idle.
    released: Option<u64>,
    idle_children: u32,
}

impl IdleBlocks {
    pub(super) fn new(blocks: u32) -> Self {
        Self {
            entries: vec![Entry::default(); blocks as usize],
            queue: BlockHeap::new(blocks),
            timers: BlockHeap::new(blocks),
            now: Duration::ZERO,
            releases: 0,
        }
    }

    /// The block that goes first. O(1).
    pub(super) fn cheapest(&self) -> Option<BlockId> {
        self.queue.first().map(|(_, block)| block)
    }

    pub(super) fn retention(&self, block: BlockId) -> BlockRetention {
        self.entries[block.index()].retention
    }

    /// Sets the retention of a block in the tree. If it is idle, the time starts now. O(log blocks).
    pub(super) fn set_retention(&mut self, block: BlockId, retention: BlockRetention) {
        self.entries[block.index()].retention = retention;
        if self.entries[block.index()].released.is_some() {
            self.enqueue(block);
            self.start_timer(block);
        }
    }

    /// A block of the tree has no holder any more. O(log blocks).
    pub(super) fn insert(&mut self, block: BlockId, parent: Option<BlockId>) {
        self.entries[block.index()].released = Some(self.next_release());
        self.enqueue(block);
        self.start_timer(block);
        if let Some(parent) = parent {
            self.entries[parent.index()].idle_children += 1;
            self.queue.remove(parent);
        }
    }

    /// An idle block has a holder, or leaves the tree. O(log blocks).
    pub(super) fn remove(&mut self, block: BlockId, parent: Option<BlockId>) {
        self.entries[block.index()].released = None;
        self.queue.remove(block);
        self.timers.remove(block);
        if let Some(parent) = parent {
            self.entries[parent.index()].idle_children -= 1;
            self.enqueue(parent);
        }
    }

    /// Sets the time; it never goes back.
    pub(super) fn set_now(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// A block whose time is over, with the priority that it had: it has the default one now, and counts as
    /// released just now. `None` when there is no more. O(log blocks).
    pub(super) fn expire(&mut self) -> Option<(BlockId, RetentionPriority)> {
        let (_, block) = self.timers.first().filter(|&(end, _)| end <= self.now)?;
        self.timers.remove(block);
        let before = self.retention(block).priority;
        let released = self.next_release();
        let entry = &mut self.entries[block.index()];
        entry.retention = BlockRetention::default();
        entry.released = Some(released);
        self.enqueue(block);
        Some((block, before))
    }

    /// Gives a block its place in the queue, if it belongs there.
    fn enqueue(&mut self, block: BlockId) {
        let entry = &self.entries[block.index()];
        if let Some(released) = entry.released
            && entry.idle_children == 0
        {
            self.queue.set(block, (entry.retention.priority, released));
        }
    }

    fn start_timer(&mut self, block: BlockId) {
        let duration = self.entries[block.index()].retention.duration;
        match duration.and_then(|duration| self.now.checked_add(duration)) {
            Some(end) => self.timers.set(block, end),
            None => self.timers.remove(block),
        }
    }

    fn next_release(&mut self) -> u64 {
        self.releases += 1;
        self.releases
    }
}

#[cfg(test)]
impl IdleBlocks {
    /// Priority and release of a block, if it is idle.
    pub(super) fn key(&self, block: BlockId) -> Option<(RetentionPriority, u64)> {
        let entry = &self.entries[block.index()];
        entry.released.map(|released| (entry.retention.priority, released))
    }

    pub(super) fn is_queued(&self, block: BlockId) -> bool {
        self.queue.contains(block)
    }

    /// Of all that could grow.
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.queue.capacity(), self.timers.capacity()]
    }

    pub(super) fn has_timer(&self, block: BlockId) -> bool {
        self.timers.contains(block)
    }
}
