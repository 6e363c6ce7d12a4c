use shardrun_model::CacheType;

use super::*;
use crate::memory::LINE_BYTES;

fn shape(head_dim: usize, tokens_per_block: usize, dtype: CacheType) -> CacheShape {
    CacheShape { layers: 2, kv_heads: 3, head_dim, blocks: 4, tokens_per_block, dtype }
}

#[test]
fn the_cache_has_the_bytes_that_its_shape_says() {
    for dtype in CacheType::ALL {
        for (head_dim, tokens) in [(64, 16), (128, 32), (16, 64)] {
            let shape = shape(head_dim, tokens, dtype);
            let cache = Cache::new(shape).unwrap();
            assert_eq!(Some(cache.memory.len()), shape.bytes());
        }
        // Lanes of tokens and dimensions that aren't there come on top.
        let shape = shape(20, 8, dtype);
        assert!(Some(Cache::new(shape).unwrap().layout().bytes()) > shape.bytes());
    }
}

/// Element `at` of a lane of some type, as a number.
fn lane(vectors: Vectors<'_>, at: usize, token: usize) -> f32 {
    let mut number = f32::NAN;
    vectors.dtype.for_each_weight(
        &vectors.lanes[at / 16 * vectors.dtype.record_bytes()..],
        at % 16,
        |_, x| {
            number = x;
        },
    );
    number * vectors.scales.get(token).copied().unwrap_or(1.0)
}

#[test]
fn blocks_keep_apart_and_begin_on_a_cache_line() {
    for dtype in CacheType::ALL {
        let mut cache = Cache::new(shape(20, 8, dtype)).unwrap();
        let layout = cache.layout();
        // 1 to 192, which all types have; whole numbers nearly.
        let name = |layer: usize, head: usize, block: u32, slot: usize| {
            (((layer * 3 + head) * 4 + block as usize) * 8 + slot + 1) as f32
        };
        for layer in 0..2 {
            for (head, slab) in cache.layer_mut(layer).chunks_mut(layout.slab_bytes()).enumerate() {
                for block in 0..4 {
                    for slot in 0..8 {
                        let place = Place { block, slot };
                        let value = name(layer, head, block, slot);
                        layout.put_value(slab, place, &[value; 20]);
                        layout.put_key(slab, place, &[-value; 20]);
                    }
                }
            }
        }
        for layer in 0..2 {
            for head in 0..3 {
                for block in 0..4 {
                    let found = cache.block(layer, head, block);
                    assert_eq!(found.keys.lanes.as_ptr() as usize % LINE_BYTES, 0);
                    for slot in 0..8 {
                        let value = name(layer, head, block, slot);
                        for dimension in 0..20 {
                            let key = lane(found.keys, dimension * 16 + slot, slot);
                            assert!((key + value).abs() < 1e-4, "{dtype}: {key} for -{value}");
                            let tile = dimension / 16 * 8 + slot;
                            let kept = lane(found.values, tile * 16 + dimension % 16, slot);
                            assert!((kept - value).abs() < 1e-4, "{dtype}: {kept} for {value}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_cache_that_cannot_be_is_an_error_with_its_size() {
    let shape = shape(64, 16, CacheType::F32);
    let endless = CacheShape { blocks: usize::MAX, ..shape };
    let error = Cache::new(endless).err().unwrap().to_string();
    let bytes = usize::MAX as u128 * 2 * 3 * 2 * 64 * 16 * 4;
    assert_eq!(error, format!("no memory for the cache of keys and values: {bytes} bytes"));
    for dtype in CacheType::ALL {
        for shape in [
            CacheShape { blocks: 1 << 40, dtype, ..shape },
            CacheShape { layers: 0, blocks: usize::MAX, dtype, ..shape },
            CacheShape { head_dim: usize::MAX, tokens_per_block: usize::MAX, dtype, ..shape },
        ] {
            assert!(matches!(Cache::new(shape), Err(CpuError::OutOfMemory { .. })));
        }
    }
}
