//! What happens to cached blocks, for whoever routes requests to where their prefix is.

use serde::{Deserialize, Serialize};

/// An event. A gap in the ids means that some were lost: what is cached is unknown then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEvent {
    /// Counts events, from 0.
    pub event_id: u64,
    /// What happened.
    pub data: KvEventData,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvEventData {
    /// The cache was made.
    Created {
        /// Blocks on each level; there is one level.
        num_blocks_per_cache_level: Vec<u64>,
    },
    /// Blocks can be found from now on.
    Stored {
        /// The hash of the block before the first one; `None` at the beginning of a sequence.
        parent_hash: Option<BlockHash>,
        /// In the order of their sequence.
        blocks: Vec<StoredBlock>,
    },
    /// Blocks can no longer be found.
    Removed {
        /// Which ones.
        block_hashes: Vec<BlockHash>,
    },
    /// A block's priority changed.
    Updated {
        /// Which one.
        block_hash: BlockHash,
        /// Before.
        priority_old: u8,
        /// Now.
        priority_new: u8,
    },
}

/// A block that can be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlock {
    /// Its hash.
    pub block_hash: BlockHash,
    /// Its tokens, as many as a block holds.
    pub tokens: Vec<u32>,
    /// Which level holds it: 0, the device's memory.
    pub cache_level: u32,
    /// How dear it is.
    pub priority: u8,
}

/// The hash of a block's tokens and all before them, the same in every process; see
/// [`BlockHash::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockHash(pub u64);

impl BlockHash {
    /// Where the sequences of one adapter and one salt begin: xxh3 of the adapter's number, eight bytes
    /// little-endian, and the salt.
    #[must_use]
    pub fn root(adapter: u64, salt: &str) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&adapter.to_le_bytes());
        hasher.update(salt.as_bytes());
        Self(hasher.digest())
    }

    /// A block of `tokens` after `parent`: xxh3 of the parent's hash, eight bytes little-endian, and the
    /// tokens, four bytes each.
    #[must_use]
    pub fn of(parent: Self, tokens: &[u32]) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&parent.0.to_le_bytes());
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        Self(hasher.digest())
    }
}
