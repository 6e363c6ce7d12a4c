//! Where things are in the cache.

use std::ops::Range;

use shardrun_model::CacheShape;

use crate::{CpuError, matrix::GROUP, memory::LINE_BYTES};

use super::{
    TokenGroup,
    lanes::{self, step},
};

/// What the memory is for, in errors.
pub(super) const WHAT: &str = "the cache of keys and values";

/// The places of keys, values and their scales, each of which begin on a cache line. In blocks of fewer
/// than sixteen tokens, and heads of dimensions that sixteen doesn't divide, some lanes stay empty.
#[derive(Clone, Copy)]
pub(crate) struct CacheLayout {
    pub(crate) shape: CacheShape,
    keys: Places,
    values: Places,
    block_bytes: usize,
}

/// Keys or values in a block, and their scales.
#[derive(Clone, Copy)]
struct Places {
    /// Bytes from the start of the block.
    first: usize,
    scales: usize,
    end: usize,
    /// Bytes of one group.
    group_bytes: usize,
}

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Keys,
    Values,
}

impl CacheLayout {
    /// Lays a cache out; an error if no memory could hold it.
    pub(super) fn new(shape: CacheShape) -> Result<Self, CpuError> {
        let [lane, scale, dimensions, tokens] = [
            step(shape.dtype) * shape.dtype.element_bytes(),
            shape.dtype.scale_bytes(),
            shape.head_dim,
            shape.tokens_per_block,
        ]
        .map(|factor| factor as u128);
        let (lanes, step) = (GROUP as u128, step(shape.dtype) as u128);
        let group_tokens = tokens.min(lanes);
        let groups = tokens.div_ceil(lanes);
        // As wide as this, only absurd shapes reach the end of the numbers.
        let line = |bytes: u128| {
            let line = LINE_BYTES as u128;
            bytes.div_ceil(line).saturating_mul(line)
        };
        let of_keys = dimensions.div_ceil(step).saturating_mul(lanes * lane);
        let of_values =
            dimensions.next_multiple_of(lanes).saturating_mul(group_tokens.div_ceil(step) * lane);
        let of_scales = lanes * scale;
        let keys = line(groups.saturating_mul(of_keys));
        let values = line(groups.saturating_mul(of_values));
        let scales = line(groups.saturating_mul(of_scales));
        let block = keys.saturating_add(values).saturating_add(scales.saturating_mul(2));
        // At least one of each, so that nothing below overflows where there is none of one.
        let bytes = [shape.layers, shape.kv_heads, shape.blocks]
            .iter()
            .fold(block, |bytes, &factor| bytes.saturating_mul(factor.max(1) as u128));
        if usize::try_from(bytes).is_err() {
            return Err(CpuError::OutOfMemory { what: WHAT, bytes });
        }
        let [keys, values, scales, block_bytes, of_keys, of_values] =
            [keys, values, scales, block, of_keys, of_values].map(|bytes| bytes as usize);
        let places = |first: usize, bytes: usize, group_bytes: usize| Places {
            first,
            scales: first + bytes,
            end: first + bytes + scales,
            group_bytes,
        };
        Ok(Self {
            shape,
            keys: places(0, keys, of_keys),
            values: places(keys + scales, values, of_values),
            block_bytes,
        })
    }

    /// Tokens of a group.
    pub(crate) fn group_tokens(&self) -> usize {
        self.shape.tokens_per_block.min(GROUP)
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

    /// Where one part of a block is among the bytes of a layer.
    pub(crate) fn part(&self, part: Part, head: usize, block: u32) -> Range<usize> {
        let places = self.places(part);
        let first = self.block(head, block);
        first + places.first..first + places.end
    }

    /// The group of a slot in its part of a block.
    pub(crate) fn group_of(&self, part: Part, slot: usize) -> Range<usize> {
        let bytes = self.places(part).group_bytes;
        let group = slot / self.group_tokens();
        group * bytes..(group + 1) * bytes
    }

    /// Stores a key or a value in its part of a block.
    pub(crate) fn put(&self, part: Part, bytes: &mut [u8], slot: usize, vector: &[f32]) {
        let places = self.places(part);
        let (numbers, scales) = bytes.split_at_mut(places.scales - places.first);
        let (group, at) = (slot / self.group_tokens(), slot % self.group_tokens());
        let numbers = &mut numbers[self.group_of(part, slot)];
        let scale = match part {
            Part::Keys => lanes::put_key(self.shape.dtype, numbers, at, vector),
            Part::Values => lanes::put_value(self.shape.dtype, numbers, at, vector),
        };
        if let Some(scale) = scale {
            let scales: &mut [f32] = bytemuck::cast_slice_mut(scales);
            scales[group * GROUP + at] = scale;
        }
    }

    /// One group of a block among the bytes of a layer.
    pub(crate) fn group<'a>(
        &self,
        layer: &'a [u8],
        head: usize,
        block: u32,
        group: usize,
    ) -> TokenGroup<'a> {
        let block = &layer[self.block(head, block)..][..self.block_bytes];
        let numbers = |places: Places| {
            &block[places.first + group * places.group_bytes..][..places.group_bytes]
        };
        let scales = |places: Places| match self.shape.dtype.scale_bytes() {
            0 => &[],
            bytes => {
                let first = places.scales + group * GROUP * bytes;
                bytemuck::cast_slice(&block[first..first + GROUP * bytes])
            }
        };
        TokenGroup {
            keys: numbers(self.keys),
            values: numbers(self.values),
            key_scales: scales(self.keys),
            value_scales: scales(self.values),
        }
    }

    fn places(&self, part: Part) -> Places {
        match part {
            Part::Keys => self.keys,
            Part::Values => self.values,
        }
    }

    /// Where a block begins among the bytes of a layer.
    fn block(&self, head: usize, block: u32) -> usize {
        head * self.slab_bytes() + block as usize * self.block_bytes
    }
}
