//! The paged cache of keys and values.
//!
//! A block is contiguous, with all its layers and KV heads, so that the cache takes memory of the system block
//! by block, as tokens come, and not a page of each layer at once. Of a layer and head it has the keys, then the
//! values, both in groups of sixteen tokens, or of all tokens of a block that has fewer. What a kernel multiplies at once is a step:
//! one element of a key or one token's values, or a pair of them where they are bfloat16. Keys
//! lie as `[group][step][16 tokens][pair]`, so that scores of sixteen tokens come out at once; values
//! as `[group][step][dimensions][pair]`, so that sixteen dimensions are added up at once. Where
//! elements are whole numbers, one float32 a token follows the keys, and one the values.

mod ahead;
mod lanes;
mod layout;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use shardrun_model::CacheShape;

use crate::{CpuError, memory::Memory};

use ahead::Ahead;

pub(crate) use lanes::step;
pub(crate) use layout::{CacheLayout, Part};

/// All keys and values of one rank.
pub(crate) struct Cache {
    memory: Memory,
    ahead: Ahead,
    layout: CacheLayout,
}

/// Keys and values of a few tokens of one head.
#[derive(Clone, Copy, Default)]
pub(crate) struct TokenGroup<'a> {
    pub(crate) keys: &'a [u8],
    pub(crate) values: &'a [u8],
    /// What the elements of each token's key are still to be multiplied by; empty if by nothing.
    pub(crate) key_scales: &'a [f32],
    /// The same for the values.
    pub(crate) value_scales: &'a [f32],
}

impl Cache {
    pub(crate) fn new(shape: CacheShape) -> Result<Self, CpuError> {
        let layout = CacheLayout::new(shape)?;
        let memory = Memory::zeroed(layout::WHAT, layout.bytes())?;
        let ahead = Ahead::new(memory.backing());
        Ok(Self { memory, ahead, layout })
    }

    pub(crate) fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// To be called with the blocks that are in use.
    pub(crate) fn used(&mut self, blocks: &[u32]) {
        let count = blocks.iter().max().map_or(0, |&last| last as usize + 1);
        self.ahead.used(count * self.layout.block_bytes());
    }

    /// All blocks, one after the other.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }
}
