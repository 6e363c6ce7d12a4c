//! AVX-512 with BF16: sixteen outputs in a register, a pair of each multiplied at once.

use std::arch::x86_64::*;

use super::{Block, PAIRS, PairBlock, chains::Tile, tiles::Sums, transpose::transposed};
use crate::{
    disjoint::Rectangle,
    kernels::{amx::Amx, attention::Avx512Bf16, vector::Avx512},
    operand::{PairOrder, PairRow},
};

/// Words of a register.
const LANES: usize = 16;

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
                let pair = _mm512_or_si512(half(first), _mm512_slli_epi32::<16>(half(second)));
                _mm512_storeu_si512(words.as_mut_ptr().cast(), pair);
            }
        }
    }
    // SAFETY: the kernels exist, so the CPU has the features.
    unsafe { round(block, rounded) }
}

/// Rounds elements; where `row` has room for more, come zeros.
pub(in crate::kernels) fn round_row(
    _: Avx512Bf16,
    values: &[f32],
    row: &PairRow<'_>,
    order: PairOrder,
) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn round(values: &[f32], row: &PairRow<'_>, order: PairOrder) {
        let inputs: [u16; 2 * LANES] = std::array::from_fn(|place| order.column_at(place) as u16);
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let places = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(row.width() as i32));
        for (block, values) in values.chunks(2 * LANES).enumerate() {
            let first = ((1u32 << values.len().min(LANES)) - 1) as u16;
            let second = ((1u32 << values.len().saturating_sub(LANES)) - 1) as u16;
            let count = LANES.min(row.len() - block * LANES);
            let pairs = ((1u32 << count) - 1) as u16;
            let start = row.pairs(block * LANES, count);
            // SAFETY: the masks end with the values, and the row has a place for each pair, `width` words
            // from each other.
            unsafe {
                let low = _mm512_maskz_loadu_ps(first, values.as_ptr());
                let high = _mm512_maskz_loadu_ps(second, values.as_ptr().wrapping_add(LANES));
                let rounded = _mm512_cvtne2ps_pbh(high, low);
                let words = std::mem::transmute::<__m512bh, __m512i>(rounded);
                let inputs = _mm512_loadu_si512(inputs.as_ptr().cast());
                let words = _mm512_permutexvar_epi16(inputs, words);
                _mm512_mask_i32scatter_epi32::<4>(start.cast(), pairs, places, words);
            }
        }
    }
    assert!(i32::try_from(LANES * row.width()).is_ok(), "a panel of few rows");
    // SAFETY: the kernels exist, so the CPU has the features.
    unsafe { round(values, row, order) }
}

/// Writes the sums of a panel, of which `products` has as many rows.
pub(super) fn store_products(amx: Amx, sums: &Sums, products: &mut Rectangle<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn store(kernels: Avx512, sums: &Sums, products: &mut Rectangle<'_>) {
        // SAFETY: an output's sums are as long as a register.
        let outputs =
            std::array::from_fn(|at| unsafe { _mm512_load_si512(sums.0[at].as_ptr().cast()) });
        for (row, sums) in transposed(outputs).into_iter().enumerate().take(products.rows()) {
            kernels.store_some(products.row(row), _mm512_castsi512_ps(sums));
        }
    }
    // SAFETY: the kernels exist, so the CPU has the features.
    unsafe { store(amx.without_amx().without_bf16(), sums, products) }
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
