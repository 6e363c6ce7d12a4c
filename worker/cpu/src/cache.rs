//! The paged cache of keys and values.
//!
//! A block of one layer and KV head is contiguous: its keys, then its values, both as groups of sixteen
//! lanes that [`Kernels::multiply_rows`](crate::Kernels) reads as weights. Keys lie as
//! `[token tile][dimension][16 tokens]`, so that scores of sixteen tokens come out at once;
//! values as `[dimension tile][token][16 dimensions]`, so that sixteen dimensions are added up at once.

use shardrun_model::CacheShape;

use crate::{
    CpuError,
    matrix::GROUP,
    memory::{Line, zeroed},
};

/// All keys and values of one rank.
pub(crate) struct Cache {
    memory: Vec<Line>,
    layout: CacheLayout,
}

/// Where things are in the cache.
#[derive(Clone, Copy)]
pub(crate) struct CacheLayout {
    pub(crate) shape: CacheShape,
}

/// One block of one layer and KV head.
#[derive(Clone, Copy)]
pub(crate) struct CacheBlock<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
}

impl Cache {
    pub(crate) fn new(shape: CacheShape) -> Result<Self, CpuError> {
        const WHAT: &str = "the cache of keys and values";
        let layout = CacheLayout { shape };
        let wanted = layout.bytes();
        let bytes = usize::try_from(wanted)
            .map_err(|_| CpuError::OutOfMemory { what: WHAT, bytes: wanted })?;
        Ok(Self { memory: zeroed(WHAT, bytes)?, layout })
    }

    pub(crate) fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// All KV heads of `layer`: as many slabs of [`CacheLayout::slab_len`], one after the other.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut [f32] {
        let len = self.layout.shape.kv_heads * self.layout.slab_len();
        &mut bytemuck::cast_slice_mut(&mut self.memory)[layer * len..(layer + 1) * len]
    }

    pub(crate) fn block(&self, layer: usize, kv_head: usize, block: u32) -> CacheBlock<'_> {
        let layout = &self.layout;
        let slab = (layer * layout.shape.kv_heads + kv_head) * layout.slab_len();
        let first = slab + block as usize * layout.block_len();
        let floats: &[f32] = bytemuck::cast_slice(&self.memory);
        let (keys, values) = floats[first..first + layout.block_len()].split_at(layout.keys_len());
        CacheBlock { keys, values }
    }
}

impl CacheLayout {
    /// Tiles of tokens in a block; in blocks of fewer than sixteen tokens some lanes stay empty.
    pub(crate) fn token_tiles(&self) -> usize {
        self.shape.tokens_per_block.div_ceil(GROUP)
    }

    /// Tiles of dimensions in a head.
    pub(crate) fn dimension_tiles(&self) -> usize {
        self.shape.head_dim.div_ceil(GROUP)
    }

    fn keys_len(&self) -> usize {
        self.token_tiles() * self.shape.head_dim * GROUP
    }

    fn values_len(&self) -> usize {
        self.dimension_tiles() * self.shape.tokens_per_block * GROUP
    }

    /// Floats of one block.
    pub(crate) fn block_len(&self) -> usize {
        self.keys_len() + self.values_len()
    }

    /// Floats of all blocks of one layer and KV head.
    pub(crate) fn slab_len(&self) -> usize {
        self.shape.blocks * self.block_len()
    }

    /// Bytes of everything; more than a `usize` holds if the shape is absurd.
    fn bytes(&self) -> u128 {
        let CacheShape { layers, kv_heads, head_dim, blocks, tokens_per_block } = self.shape;
        let lanes = GROUP as u128;
        let (dimensions, tokens) = (head_dim as u128, tokens_per_block as u128);
        let keys = tokens.next_multiple_of(lanes).saturating_mul(dimensions);
        let values = dimensions.next_multiple_of(lanes).saturating_mul(tokens);
        [layers, kv_heads, blocks, size_of::<f32>()]
            .iter()
            .fold(keys.saturating_add(values), |bytes, &factor| {
                bytes.saturating_mul(factor as u128)
            })
    }

    /// Writes element `dimension` of a key into the slab of its head.
    pub(crate) fn put_key(&self, slab: &mut [f32], place: Place, dimension: usize, value: f32) {
        let tile = place.slot / GROUP * self.shape.head_dim * GROUP;
        let at = tile + dimension * GROUP + place.slot % GROUP;
        slab[place.block as usize * self.block_len() + at] = value;
    }

    /// Writes a value vector into the slab of its head.
    pub(crate) fn put_value(&self, slab: &mut [f32], place: Place, values: &[f32]) {
        let first = place.block as usize * self.block_len() + self.keys_len();
        for (tile, values) in values.chunks(GROUP).enumerate() {
            let at = first + (tile * self.shape.tokens_per_block + place.slot) * GROUP;
            slab[at..at + values.len()].copy_from_slice(values);
        }
    }
}

/// Where one token is: which block, and where in it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) block: u32,
    pub(crate) slot: usize,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shape(head_dim: usize, tokens_per_block: usize) -> CacheShape {
        CacheShape { layers: 2, kv_heads: 3, head_dim, blocks: 4, tokens_per_block }
    }

    #[test]
    fn the_cache_has_the_bytes_that_its_shape_says() {
        for (head_dim, tokens) in [(64, 16), (128, 32), (16, 64)] {
            let shape = shape(head_dim, tokens);
            let layout = CacheLayout { shape };
            assert_eq!(Some(layout.bytes()), shape.bytes(4).map(|bytes| bytes as u128));
            assert_eq!(layout.bytes(), 2 * 3 * 4 * layout.slab_len() as u128);
        }
    }

    #[test]
    fn blocks_keep_apart_and_begin_on_a_cache_line() {
        let mut cache = Cache::new(shape(20, 8)).unwrap();
        let layout = cache.layout();
        let name = |layer: usize, head: usize, block: u32, slot: usize| {
            (((layer * 3 + head) * 4 + block as usize) * 8 + slot) as f32
        };
        for layer in 0..2 {
            for (head, slab) in cache.layer_mut(layer).chunks_mut(layout.slab_len()).enumerate() {
                for block in 0..4 {
                    for slot in 0..8 {
                        let place = Place { block, slot };
                        let value = name(layer, head, block, slot);
                        layout.put_value(slab, place, &[value; 20]);
                        for dimension in 0..20 {
                            layout.put_key(slab, place, dimension, -value);
                        }
                    }
                }
            }
        }
        for layer in 0..2 {
            for head in 0..3 {
                for block in 0..4 {
                    let found = cache.block(layer, head, block);
                    assert_eq!(found.keys.as_ptr() as usize % 64, 0);
                    for slot in 0..8 {
                        let value = name(layer, head, block, slot);
                        for dimension in 0..20 {
                            assert_eq!(found.keys[dimension * 16 + slot], -value);
                            let tile = dimension / 16 * 8 + slot;
                            assert_eq!(found.values[tile * 16 + dimension % 16], value);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_cache_that_cannot_be_is_an_error_with_its_size() {
        let shape = CacheShape { blocks: usize::MAX, ..shape(64, 16) };
        let error = Cache::new(shape).err().unwrap().to_string();
        let bytes = usize::MAX as u128 * 2 * 3 * 2 * 64 * 16 * 4;
        assert_eq!(error, format!("no memory for the cache of keys and values: {bytes} bytes"));
        let shape = CacheShape { blocks: 1 << 40, ..shape };
        assert!(matches!(Cache::new(shape), Err(CpuError::OutOfMemory { .. })));
    }
}
