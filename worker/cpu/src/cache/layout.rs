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
    /// Bytes of one layer and KV head of a block.
    head_bytes: usize,
}

/// Keys or values of a layer and head in a block, and their scales.
#[derive(Clone, Copy)]
struct Places {
    /// Bytes from the start of what the block has of them.
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
        let [keys, values, scales, head_bytes, of_keys, of_values] =
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
            head_bytes,
        })
    }

    /// Tokens of a group.
    pub(crate) fn group_tokens(&self) -> usize {
        self.shape.tokens_per_block.min(GROUP)
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(&self) -> usize {
        self.shape.layers * self.shape.kv_heads * self.head_bytes
    }

    /// Bytes of everything.
    pub(super) fn bytes(&self) -> usize {
        self.shape.blocks * self.block_bytes()
    }

    /// Where one part of a block is that belongs to a KV head of a layer.
    pub(crate) fn part(&self, part: Part, of: (usize, usize), block: u32) -> Range<usize> {
        let places = self.places(part);
        let first = self.head(of, block);
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
        cache: &'a [u8],
        of: (usize, usize),
        block: u32,
        group: usize,
    ) -> TokenGroup<'a> {
        let head = &cache[self.head(of, block)..][..self.head_bytes];
        let numbers = |places: Places| {
            &head[places.first + group * places.group_bytes..][..places.group_bytes]
        };
        let scales = |places: Places| match self.shape.dtype.scale_bytes() {
            0 => &[],
            bytes => {
                let first = places.scales + group * GROUP * bytes;
                bytemuck::cast_slice(&head[first..first + GROUP * bytes])
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

    /// Where the bytes of a KV head of a layer begin in a block.
    fn head(&self, (layer, head): (usize, usize), block: u32) -> usize {
        block as usize * self.block_bytes() + (layer * self.shape.kv_heads + head) * self.head_bytes
    }
}
