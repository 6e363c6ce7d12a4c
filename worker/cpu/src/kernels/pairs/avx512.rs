//! AVX-512 with BF16: sixteen outputs in a register, a pair of each multiplied at once.

use std::arch::x86_64::*;

use super::{Block, PAIRS, PairBlock, Tile};
use crate::kernels::attention::Avx512Bf16;

/// Rounds a block.
pub(super) fn round(_: Avx512Bf16, block: &Block, rounded: &mut PairBlock) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn round(block: &Block, rounded: &mut PairBlock) {
        for (words, [first, second]) in rounded.0.iter_mut().zip(block.as_chunks::<2>().0) {
            // SAFETY: an input has sixteen outputs, and so has a pair; the types of halves are the same 32
            // bytes.
            unsafe {
                let half = |values: &[f32; 16]| {
                    let halves = _mm512_cvtneps_pbh(_mm512_loadu_ps(values.as_ptr()));
                    _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(halves))
                };
                let pair = _mm512_or_si512(_mm512_slli_epi32::<16>(half(first)), half(second));
                _mm512_storeu_si512(words.as_mut_ptr().cast(), pair);
            }
        }
    }
    // SAFETY: the kernels exist, so the CPU has the features.
    unsafe { round(block, rounded) }
}

/// Computes a tile of up to sixteen rows.
pub(super) fn multiply(kernels: Avx512Bf16, tile: Tile<'_, '_>) {
    let rows = tile.products.rows();
    assert!(tile.panel.len() == tile.pairs * rows, "a panel of all pairs");
    assert!(tile.pairs <= tile.blocks.len() * PAIRS, "weights of all pairs");
    // SAFETY: the kernels exist, so the CPU has the features.
    unsafe { for_rows!(rows, C => multiply_rows::<C>(kernels, tile)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn multiply_rows<const C: usize>(kernels: Avx512Bf16, mut tile: Tile<'_, '_>) {
    let outputs = kernels.without_bf16();
    let mut totals = [_mm512_setzero_ps(); C];
    if tile.add {
        for c in 0..C {
            totals[c] = outputs.load_some(tile.products.row(c));
        }
    }
    let weights = tile.blocks.iter().flat_map(|block| &block.0);
    for (words, row) in weights.zip(tile.panel.chunks_exact(C)) {
        // SAFETY: a pair has sixteen words; the types are the same 64 bytes.
        unsafe {
            let weights = _mm512_loadu_si512(words.as_ptr().cast());
            let weights = std::mem::transmute::<__m512i, __m512bh>(weights);
            for_each_row!(c < C {
                let x = _mm512_set1_epi32(row[c].cast_signed());
                let x = std::mem::transmute::<__m512i, __m512bh>(x);
                totals[c] = _mm512_dpbf16_ps(totals[c], weights, x);
            });
        }
    }
    for c in 0..C {
        outputs.store_some(tile.products.row(c), totals[c]);
    }
}
