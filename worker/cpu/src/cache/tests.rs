use shardrun_model::CacheType;

use super::layout::Part;
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

#[test]
fn blocks_keep_apart_and_begin_on_a_cache_line() {
    for dtype in CacheType::ALL {
        for tokens in [8, 32] {
            let mut cache = Cache::new(shape(20, tokens, dtype)).unwrap();
            let layout = cache.layout();
            let parts = [Part::Keys, Part::Values];
            // What is stored of one token, as it lies in a cache with nothing else.
            let alone = |part: Part, slot: usize| {
                let mut lines =
                    Memory::zeroed(layout::WHAT, layout.part(part, (0, 0), 0).len()).unwrap();
                let bytes = lines.as_mut_slice();
                layout.put(part, bytes, slot, &[1.0; 20]);
                bytes.to_vec()
            };
            for part in parts {
                for slot in 0..tokens {
                    for other in 0..slot {
                        let mut both = std::iter::zip(alone(part, slot), alone(part, other));
                        assert!(both.all(|(one, two)| one == 0 || two == 0), "{dtype}, {part:?}");
                    }
                }
            }
            let mut seen = vec![0u8; cache.as_mut_slice().len()];
            for of in (0..2).flat_map(|layer| (0..3).map(move |head| (layer, head))) {
                for block in 0..4 {
                    for part in parts {
                        let range = layout.part(part, of, block);
                        assert_eq!(range.start % LINE_BYTES, 0);
                        assert_eq!(range.start / layout.block_bytes(), block as usize);
                        seen[range].iter_mut().for_each(|byte| *byte += 1);
                    }
                }
            }
            assert!(seen.iter().all(|&parts| parts == 1), "{dtype}");
            assert_eq!(cache.as_mut_slice().as_ptr() as usize % LINE_BYTES, 0);
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
