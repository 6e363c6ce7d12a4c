//! The paged cache of keys and values.
//!
//! A block of one layer and KV head is contiguous: its keys, then its values, both as groups of sixteen
//! lanes that [`Kernels::multiply_rows`](crate::Kernels) reads as weights. Keys lie as
//! `[token tile][dimension][16 tokens]`, so that scores of sixteen tokens come out at once;
//! values as `[dimension tile][token][16 dimensions]`, so that sixteen dimensions are added up at once.
//! Where lanes are whole numbers, one float32 a token follows the keys, and one the values.

mod lanes;
mod layout;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::ops::Range;

use shardrun_model::{CacheShape, CacheType};

use crate::{
    CpuError,
    matrix::{BlockType, Weights},
    memory::Memory,
};

pub(crate) use layout::{CacheLayout, Place};

/// All keys and values of one rank.
pub(crate) struct Cache {
    memory: Memory,
    layout: CacheLayout,
}

/// One block of one layer and KV head.
#[derive(Clone, Copy)]
pub(crate) struct CacheBlock<'a> {
    pub(crate) keys: Vectors<'a>,
    pub(crate) values: Vectors<'a>,
}

/// The keys or the values of a block.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a> {
    dtype: CacheType,
    pub(crate) lanes: &'a [u8],
    /// One a token, or none at all.
    scales: &'a [f32],
}

impl Cache {
    pub(crate) fn new(shape: CacheShape) -> Result<Self, CpuError> {
        let layout = CacheLayout::new(shape)?;
        Ok(Self { memory: Memory::zeroed(layout::WHAT, layout.bytes())?, layout })
    }

    pub(crate) fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// All layers: as many slabs of [`CacheLayout::slab_bytes`] as there are layers and KV heads.
    pub(crate) fn slabs_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }

    /// All KV heads of `layer`: as many slabs, one after the other.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut [u8] {
        let len = self.layout.shape.kv_heads * self.layout.slab_bytes();
        &mut self.slabs_mut()[layer * len..(layer + 1) * len]
    }

    pub(crate) fn block(&self, layer: usize, kv_head: usize, block: u32) -> CacheBlock<'_> {
        let layout = &self.layout;
        let slab = (layer * layout.shape.kv_heads + kv_head) * layout.slab_bytes();
        let first = slab + block as usize * layout.block_bytes();
        let bytes = self.memory.as_slice();
        layout.cut(&bytes[first..first + layout.block_bytes()])
    }
}

impl<'a> Vectors<'a> {
    /// What the elements of the tokens in `slots` are still to be multiplied by; empty if by nothing.
    pub(crate) fn scales_of(&self, slots: &Range<usize>) -> &'a [f32] {
        if self.scales.is_empty() { self.scales } else { &self.scales[slots.clone()] }
    }

    /// Lanes from record `first` on as weights: of each group, `inputs` of its `group_inputs`.
    pub(crate) fn weights(
        &self,
        first: usize,
        groups: usize,
        inputs: usize,
        group_inputs: usize,
    ) -> Weights<'a, CacheType> {
        let lanes = &self.lanes[first * self.dtype.record_bytes()..];
        Weights::lanes(self.dtype, lanes, groups, inputs, group_inputs)
    }
}
