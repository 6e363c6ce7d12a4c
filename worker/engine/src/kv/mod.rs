//! The paged KV cache's books: which block is free, who holds which, what each one contains, and which
//! goes when another is needed. The leader keeps them and tells the ranks; nothing here touches a key or
//! a value, reads a clock or waits.
//!
//! # The life of a block
//!
//! ```text
//!              take                          commit
//!      free ----------> held, outside the ----------> held, in the tree
//!       ^  <----------         tree        <----------
//!       |    release                         a block       |     ^
//!       |                                  before it is    |     |
//!       |                                     evicted      |     | hold,
//!       |                                          release |     | after find
//!       |                                                  v     |
//!       +------------------------------------------- idle, in the tree
//!              take evicts it, or a block before it
//!
//!       release: the last holder's; release and hold of others only count
//! ```
//!
//! A block is *held* as long as sequences have it in their block tables, each once. It is *in the tree*
//! from the moment that all its tokens are computed and [`KvCache::commit`] is told, and can be found from
//! then on. A block in the tree, or with several holders, is not written: who wants to write copies it
//! ([`KvCache::writable`]). Free and idle blocks alike can be taken; together they are
//! [`KvCache::free`].
//!
//! A host or disk tier would add one state, *offloaded*, between idle and free: evicting an idle block
//! whose priority is worth it copies it down, and only its place on the device becomes free. Its
//! transitions: *offload* (idle to offloaded), *onboard* (a hit takes a device block, copies up, and holds
//! it) and *drop* (the tier's own eviction takes it out of the tree). The tree's places would then no
//! longer be device blocks, which is why callers keep a [`Node`] and not a block to name a place.
//!
//! # Eviction
//!
//! The cheapest idle block goes first: lowest priority, then least recently released. A block is passed
//! over while it has idle children, so that a sequence is eaten from its end. It may have held
//! descendants: a sequence with a sliding window lets go of its first blocks and goes on, and a sequence
//! may commit a block after an equal one that it doesn't hold itself. What comes after an evicted block
//! can't be found any more and leaves the tree with it: held blocks stay with their holders, idle ones
//! are free. So the last idle block of every path is always there to be evicted, and all
//! [`KvCache::free`] blocks can really be taken.

mod block_heap;
mod cache;
mod events;
mod eviction;
mod hash_index;
mod prefix_tree;
mod roots;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use cache::KvCacheConfig;
pub(crate) use cache::{BlockId, KvCache, Prefix};
pub(crate) use eviction::BlockRetention;
pub(crate) use prefix_tree::Node;
pub(crate) use roots::Root;
