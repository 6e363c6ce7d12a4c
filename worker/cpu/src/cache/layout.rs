//! Where things are in the cache.

use std::ops::Range;

use shardrun_model::CacheShape;

use crate::{CpuError, matrix::GROUP, memory::LINE_BYTES};

use super::{CacheBlock, Vectors, lanes};

/// What the memory is for, in errors.
pub(super) const WHAT: &str = "the cache of keys and values";

/// The places of keys, values and their scales, in bytes from the start of a block. In blocks of fewer
/// than sixteen tokens, and heads of dimensions that sixteen doesn't divide, some lanes stay empty.
#[derive(Clone, Copy)]
pub(crate) struct CacheLayout {
    pub(crate) shape: CacheShape,
    key_scales: usize,
    values: usize,
    value_scales: usize,
    end: usize,
    /// From one block to the next: all begin on a cache line.
    block_bytes: usize,
}

/// Where one token is: which block, and where in it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) block: u32,
    pub(crate) slot: usize,
}

impl CacheLayout {
    /// Lays a cache out; an error if no memory could hold it.
    pub(super) fn new(shape: CacheShape) -> Result<Self, CpuError> {
        let [element, scale, dimensions, tokens] = [
            shape.dtype.element_bytes(),
            shape.dtype.scale_bytes(),
            shape.head_dim,
            shape.tokens_per_block,
        ]
        .map(|factor| factor as u128);
        let lanes = GROUP as u128;
        // As wide as this, only absurd shapes reach the end of the numbers.
        let keys = tokens.next_multiple_of(lanes).saturating_mul(dimensions * element);
        let values = dimensions.next_multiple_of(lanes).saturating_mul(tokens * element);
        let scales = tokens * scale;
        let end = keys.saturating_add(values).saturating_add(2 * scales);
        let line = LINE_BYTES as u128;
        let block = end.div_ceil(line).saturating_mul(line);
        // At least one of each, so that nothing below overflows where there is none of one.
        let bytes = [shape.layers, shape.kv_heads, shape.blocks]
            .iter()
            .fold(block, |bytes, &factor| bytes.saturating_mul(factor.max(1) as u128));
        if usize::try_from(bytes).is_err() {
            return Err(CpuError::OutOfMemory { what: WHAT, bytes });
        }
        let [keys, values, scales, end, block_bytes] =
            [keys, values, scales, end, block].map(|bytes| bytes as usize);
        Ok(Self {
            shape,
            key_scales: keys,
            values: keys + scales,
            value_scales: keys + scales + values,
            end,
            block_bytes,
        })
    }

    /// Tiles of dimensions in a head.
    pub(crate) fn dimension_tiles(&self) -> usize {
        self.shape.head_dim.div_ceil(GROUP)
    }

    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Bytes of all blocks of one layer and KV head.
    pub(crate) fn slab_bytes(&self) -> usize {
        self.shape.blocks * self.block_bytes
    }

    /// Bytes of everything.
    pub(super) fn bytes(&self) -> usize {
        self.shape.layers * self.shape.kv_heads * self.slab_bytes()
    }

    /// What is where in the bytes of one block.
    pub(super) fn cut<'a>(&self, block: &'a [u8]) -> CacheBlock<'a> {
        let vectors = |lanes: Range<usize>, scales: Range<usize>| Vectors {
            dtype: self.shape.dtype,
            lanes: &block[lanes],
            scales: bytemuck::cast_slice(&block[scales]),
        };
        CacheBlock {
            keys: vectors(0..self.key_scales, self.key_scales..self.values),
            values: vectors(self.values..self.value_scales, self.value_scales..self.end),
        }
    }

    /// Stores a key in the slab of its head.
    pub(crate) fn put_key(&self, slab: &mut [u8], place: Place, key: &[f32]) {
        let block = &mut slab[place.block as usize * self.block_bytes..][..self.block_bytes];
        let first = place.slot / GROUP * self.shape.head_dim * GROUP + place.slot % GROUP;
        let (lanes, scales) = block[..self.values].split_at_mut(self.key_scales);
        let scale = lanes::put(self.shape.dtype, key, lanes, |at| first + at * GROUP);
        put_scale(scales, place.slot, scale);
    }

    /// Stores a value in the slab of its head.
    pub(crate) fn put_value(&self, slab: &mut [u8], place: Place, value: &[f32]) {
        let block = &mut slab[place.block as usize * self.block_bytes..][..self.block_bytes];
        let tile = self.shape.tokens_per_block * GROUP;
        let first = place.slot * GROUP;
        let (lanes, scales) =
            block[self.values..self.end].split_at_mut(self.value_scales - self.values);
        let scale =
            lanes::put(self.shape.dtype, value, lanes, |at| first + at / GROUP * tile + at % GROUP);
        put_scale(scales, place.slot, scale);
    }
}

/// Writes the scale of the token in `slot`, if it has one.
fn put_scale(scales: &mut [u8], slot: usize, scale: Option<f32>) {
    if let Some(scale) = scale {
        let first = slot * size_of::<f32>();
        scales[first..first + size_of::<f32>()].copy_from_slice(&scale.to_ne_bytes());
    }
}
