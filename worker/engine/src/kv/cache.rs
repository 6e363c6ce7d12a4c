//! The cache as its user, the scheduler, sees it: see [`KvCache`].

use std::time::Duration;

use shardrun_wire::{KvEvent, KvEventData, RetentionPriority, StoredBlock};

use super::events::EventLog;
use super::eviction::{BlockRetention, IdleBlocks};
use super::prefix_tree::{Entered, Node, Parent, PrefixTree};
use super::roots::Root;

/// A block of the KV cache: the same place on every rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockId(pub u32);

impl BlockId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a cache is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCacheConfig {
    /// Blocks of the device's memory.
    pub blocks: u32,
    /// Tokens of a block: a power of two.
    pub tokens_per_block: usize,
    /// Whether blocks can be found again; if not, nothing enters the tree.
    pub reuse: bool,
    /// Whether the beginning of a block can be found, too.
    pub partial_reuse: bool,
    /// Events that are kept until they are taken; 0 for none. Without reuse there are none, either.
    pub event_buffer: usize,
}

/// What the cache has of some tokens. Kept by its user and filled by [`KvCache::find`] again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The blocks of whole matches, from the first token on; then, if `tokens` is not a whole number of
    /// blocks, one that begins with the rest and must be copied before it is written.
    pub blocks: Vec<BlockId>,
    /// Matched tokens.
    pub tokens: usize,
    /// The last whole match: the parent of what is committed after it.
    pub node: Option<Node>,
    /// Of `blocks`, those that nobody holds: holding them makes [`KvCache::free`] so much less.
    pub idle: usize,
}

impl Prefix {
    /// Forgets what was found.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.node = None;
        (self.tokens, self.idle) = (0, 0);
    }
}

/// Which blocks are free, held and cached, and what the cached ones contain. The states of a block and
/// the order of eviction are told in the room's own page, `kv/mod.rs`.
///
/// Taking, holding and releasing a block of a sequence and committing it allocate nothing, unless events
/// are kept or a root is new.
///
/// # Panics
/// Methods panic if blocks are held, released, committed or promised that are not in a state for it: the
/// caller counts its own.
#[derive(Debug)]
pub(crate) struct KvCache {
    pub(super) config: KvCacheConfig,
    /// Of each block, how many hold it.
    pub(super) holders: Vec<u32>,
    /// Blocks that someone holds.
    pub(super) held: usize,
    /// Blocks that are promised.
    pub(super) reserved: usize,
    /// Blocks that contain nothing.
    pub(super) free: Vec<BlockId>,
    pub(super) tree: PrefixTree,
    pub(super) idle: IdleBlocks,
    pub(super) events: EventLog,
}

impl KvCache {
    /// A cache with all blocks free; low ones are handed out first.
    ///
    /// # Panics
    /// If a block's tokens aren't a power of two.
    #[must_use]
    pub(crate) fn new(config: KvCacheConfig) -> Self {
        let KvCacheConfig { blocks, tokens_per_block, reuse, event_buffer, .. } = config;
        assert!(tokens_per_block.is_power_of_two(), "tokens_per_block is {tokens_per_block}");
        let mut events = EventLog::new(if reuse { event_buffer } else { 0 });
        events
            .push(|| KvEventData::Created { num_blocks_per_cache_level: vec![u64::from(blocks)] });
        Self {
            config,
            holders: vec![0; blocks as usize],
            held: 0,
            reserved: 0,
            free: (0..blocks).rev().map(BlockId).collect(),
            tree: PrefixTree::new(blocks, tokens_per_block),
            idle: IdleBlocks::new(blocks),
            events,
        }
    }

    /// Blocks of the cache. O(1).
    #[must_use]
    pub(crate) fn total(&self) -> usize {
        self.holders.len()
    }

    /// Blocks that someone holds. O(1).
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Blocks that nobody holds, promised ones included: so many can be taken. O(1).
    #[must_use]
    pub(crate) fn free(&self) -> usize {
        self.total() - self.held
    }

    /// Blocks that nobody holds and nobody was promised. O(1).
    #[must_use]
    pub(crate) fn available(&self) -> usize {
        self.free().saturating_sub(self.reserved)
    }

    /// Promises blocks, unless others have a claim on them: `false`, and nothing is promised. A promise
    /// counts and names no block; its owner gives it back with [`KvCache::unreserve`] when it takes one or
    /// holds an idle one. O(1).
    #[must_use]
    pub(crate) fn reserve(&mut self, blocks: usize) -> bool {
        let enough = blocks <= self.available();
        if enough {
            self.reserved += blocks;
        }
        enough
    }

    /// Takes a promise back. O(1).
    pub(crate) fn unreserve(&mut self, blocks: usize) {
        self.reserved =
            self.reserved.checked_sub(blocks).expect("only promised blocks are unreserved");
    }

    /// Finds the longest beginning of `tokens` that is cached, and holds nothing. Tokens are compared, not
    /// only their hashes. With partial reuse the last match may be the beginning of a block: the longest
    /// among the newest [`MAX_CHILDREN_COMPARED`](super::prefix_tree::MAX_CHILDREN_COMPARED) candidates.
    ///
    /// The caller passes no more than may be reused: at least one token of a prompt must be computed.
    ///
    /// O(matched tokens), and once O(candidates · tokens of a block).
    pub(crate) fn find(&self, root: &Root, tokens: &[u32], prefix: &mut Prefix) {
        let Prefix { blocks, tokens: matched, node, idle } = prefix;
        blocks.clear();
        *matched = 0;
        *node = None;
        *idle = 0;
        let Some(mut at) = self.tree.root(root) else { return };
        for whole in tokens.chunks_exact(self.config.tokens_per_block) {
            let Some(block) = self.tree.child(at, whole) else { break };
            blocks.push(block);
            at = Parent::Block(block);
        }
        *matched = blocks.len() * self.config.tokens_per_block;
        *node = blocks.last().map(|&block| self.tree.node(block));
        if self.config.partial_reuse
            && let Some((block, common)) = self.tree.nearest_child(at, &tokens[*matched..])
        {
            blocks.push(block);
            *matched += common;
        }
        *idle = blocks.iter().filter(|block| self.holders[block.index()] == 0).count();
    }

    /// One holder more, of a block that is held or was just found. O(1), O(log blocks) if it was idle.
    pub(crate) fn hold(&mut self, block: BlockId) {
        if self.holders[block.index()] == 0 {
            assert!(self.tree.contains(block), "block {} is free and can't be held", block.0);
            self.idle.remove(block, self.tree.parent(block));
            self.held += 1;
        }
        self.holders[block.index()] += 1;
    }

    /// A block with one holder that contains nothing: a free one, else the cheapest idle one is evicted.
    /// `None` if all are held. Promises are not looked at: the caller counts. O(1), with an eviction
    /// O(log blocks) for each block that it takes out of the tree.
    #[must_use]
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        if self.free.is_empty() {
            self.evict(self.idle.cheapest()?);
        }
        let block = self.free.pop().expect("an eviction frees a block");
        self.holders[block.index()] = 1;
        self.held += 1;
        Some(block)
    }

    /// One holder less. With the last one a block in the tree becomes idle, and the time of its retention
    /// starts; another is free. O(1), O(log blocks) if it becomes idle.
    pub(crate) fn release(&mut self, block: BlockId) {
        let holders = &mut self.holders[block.index()];
        *holders = holders.checked_sub(1).expect("only held blocks are released");
        if *holders > 0 {
            return;
        }
        self.held -= 1;
        if self.tree.contains(block) {
            self.idle.insert(block, self.tree.parent(block));
        } else {
            self.free.push(block);
        }
    }

    /// How many hold a block. O(1).
    #[must_use]
    pub(crate) fn holders(&self, block: BlockId) -> u32 {
        self.holders[block.index()]
    }

    /// Whether a block can be found. O(1).
    #[must_use]
    pub(crate) fn is_cached(&self, block: BlockId) -> bool {
        self.tree.contains(block)
    }

    /// Whether its holder may write to a block: nobody else has it or can find it. O(1).
    #[must_use]
    pub(crate) fn writable(&self, block: BlockId) -> bool {
        self.holders[block.index()] == 1 && !self.tree.contains(block)
    }

    /// A held block whose tokens are all computed can be found from now on: after `parent`, or at the
    /// beginning of the sequences of `root` if there is none. Gives its place, the parent of what follows.
    ///
    /// If an equal block is there already, gives that one's place; `block` stays outside and its holder
    /// goes on with it, and the equal one keeps the dearer of both retentions.
    ///
    /// `None` if the block can't be found: without reuse, if the parent is no longer in the tree, or if
    /// hashes collide. No later block of the sequence can then be found, either, and none may be
    /// committed: with `None` for a parent it would be taken for a beginning.
    ///
    /// O(tokens of a block).
    pub(crate) fn commit(
        &mut self,
        root: &Root,
        parent: Option<Node>,
        block: BlockId,
        tokens: &[u32],
        retention: BlockRetention,
    ) -> Option<Node> {
        assert!(self.holders[block.index()] > 0, "block {} is committed by no holder", block.0);
        assert_eq!(tokens.len(), self.config.tokens_per_block, "a committed block is whole");
        if !self.config.reuse {
            return None;
        }
        match self.tree.insert(root, parent, block, tokens)? {
            Entered::New { node, hash, parent } => {
                self.idle.set_retention(block, retention);
                self.events.push(|| KvEventData::Stored {
                    parent_hash: parent,
                    blocks: vec![StoredBlock {
                        block_hash: hash,
                        tokens: tokens.to_vec(),
                        cache_level: 0,
                        priority: retention.priority.0,
                    }],
                });
                Some(node)
            }
            Entered::Equal(node) => {
                if retention.exceeds(self.idle.retention(node.block())) {
                    self.set_retention(node.block(), retention);
                }
                Some(node)
            }
        }
    }

    /// Changes how dear a cached block is, as a request may that has found it; a block outside the tree
    /// stays as it is. The time starts when the block is released, or now if nobody holds it.
    /// O(log blocks).
    pub(crate) fn set_retention(&mut self, block: BlockId, retention: BlockRetention) {
        if self.tree.contains(block) {
            let before = self.idle.retention(block).priority;
            self.idle.set_retention(block, retention);
            self.tell_update(block, before);
        }
    }

    /// Sets the time, counted from any start that stays the same. Blocks whose retention has ended get
    /// the default priority and count as released just now. O(log blocks) for each of them.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.idle.set_now(now);
        while let Some((block, before)) = self.idle.expire() {
            self.tell_update(block, before);
        }
    }

    /// Moves the events since the last call to the end of `into`, oldest first; if there were more than
    /// are kept, the oldest are missing. The caller hands them to readers in its own way, so that none can
    /// make it wait. O(events).
    pub(crate) fn take_events(&mut self, into: &mut Vec<KvEvent>) {
        self.events.take(into);
    }

    /// Takes an idle block and all that comes after it out of the tree, children before parents; `block`
    /// is then the first of the free ones.
    fn evict(&mut self, block: BlockId) {
        let mut removed = Vec::new();
        let mut at = block;
        loop {
            while let Some(child) = self.tree.first_child(Parent::Block(at)) {
                at = child;
            }
            let parent = self.tree.parent(at);
            if self.events.is_on() {
                removed.push(self.tree.hash(at));
            }
            if self.holders[at.index()] == 0 {
                self.idle.remove(at, parent);
                self.free.push(at);
            }
            self.tree.remove(at);
            if at == block {
                break;
            }
            at = parent.expect("only the evicted block's parent may be a root");
        }
        self.events.push(|| KvEventData::Removed { block_hashes: removed });
    }

    fn tell_update(&mut self, block: BlockId, before: RetentionPriority) {
        let now = self.idle.retention(block).priority;
        if now != before {
            self.events.push(|| KvEventData::Updated {
                block_hash: self.tree.hash(block),
                priority_old: before.0,
                priority_new: now.0,
            });
        }
    }
}
