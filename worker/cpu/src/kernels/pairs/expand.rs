//! Weights as tiles of bfloat16.

use std::{arch::x86_64::*, mem::MaybeUninit, ops::Range};

use super::{Block, PAIRS, PairBlock, avx512, transpose::transposed};
use crate::{
    kernels::{Kernels, amx::Amx, int8, plane::Plane},
    matrix::{
        GROUP, QuantWeights, Run, SUB_BLOCK,
        quants::{Quants, VECTOR_BYTES, with_quants},
    },
    memory::LINE_BYTES,
    operand::PairOrder,
};

/// A block as a tile: `[outputs][inputs]`, bfloat16, the inputs in [`PairOrder::EvenFirst`].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct TileBlock([[u16; SUB_BLOCK]; GROUP]);

/// From what is rounded to what is asked for meanwhile: a few sub-blocks.
const AHEAD_BYTES: usize = 2560;

/// Sub-blocks that are unpacked before they are rounded: 5 KiB.
const UNPACKED: usize = 6;

/// Values that a table has: all that a quant of five bits can stand for.
const VALUES: usize = 32;

/// Rounds blocks of inputs of one group, and writes them to as many of `tiles`.
pub(super) fn expand(
    kernels: Kernels,
    amx: Amx,
    run: &Run<'_>,
    group: usize,
    blocks: Range<usize>,
    tiles: &mut [MaybeUninit<TileBlock>],
) {
    match run {
        Run::Quants(weights) => {
            with_quants!(weights.quant_type, Q => {
                expand_quants::<Q>(kernels, amx, weights, group, blocks, tiles);
            });
        }
        Run::Floats(_) => {
            for (at, tile) in blocks.zip(tiles) {
                let mut block: Block = [[0.0; GROUP]; SUB_BLOCK];
                let mut pairs = PairBlock([[0; GROUP]; PAIRS]);
                kernels.expand_block(run, group, at, &mut block);
                let ordered =
                    std::array::from_fn(|place| block[PairOrder::EvenFirst.column_at(place)]);
                avx512::round(amx.without_amx(), &ordered, &mut pairs);
                // SAFETY: the kernels exist, so the CPU has the features.
                unsafe { turn(&pairs, tile) };
            }
        }
    }
}

fn expand_quants<Q: Quants>(
    kernels: Kernels,
    _: Amx,
    weights: &QuantWeights<'_>,
    group: usize,
    blocks: Range<usize>,
    tiles: &mut [MaybeUninit<TileBlock>],
) {
    let first = weights.sub_blocks.start + blocks.start;
    let sub_blocks = first..first + blocks.len();
    if Q::BITS == 4 {
        weights.check();
        assert!(
            group < weights.groups && sub_blocks.end <= weights.sub_blocks.end,
            "in the weights"
        );
        let records = weights.records[group * weights.group_bytes..].as_ptr();
        for (at, tile) in sub_blocks.zip(tiles) {
            // SAFETY: the kernels exist, so the CPU has the features; the weights have the sub-block.
            unsafe { round_nibbles::<Q>(records, at, tile) };
        }
        return;
    }
    let mut planes = [Plane::default(); UNPACKED];
    for (start, tiles) in sub_blocks.clone().step_by(UNPACKED).zip(tiles.chunks_mut(UNPACKED)) {
        let unpacked = start..sub_blocks.end.min(start + UNPACKED);
        let planes = &mut planes[..unpacked.len()];
        kernels.unpack(weights, group, unpacked, planes);
        for (plane, tile) in planes.iter().zip(tiles) {
            // SAFETY: the kernels exist, so the CPU has the features.
            unsafe { round_plane::<Q>(plane, tile) };
        }
    }
}

/// A block of pairs, each of sixteen outputs, as sixteen outputs of all inputs.
#[target_feature(enable = "avx512f")]
fn turn(pairs: &PairBlock, tile: &mut MaybeUninit<TileBlock>) {
    // SAFETY: a pair has sixteen words, and a tile sixteen rows of as many.
    unsafe {
        let rows = std::array::from_fn(|pair| _mm512_load_si512(pairs.0[pair].as_ptr().cast()));
        for (output, row) in transposed(rows).into_iter().enumerate() {
            _mm512_store_si512(tile.as_mut_ptr().cast::<__m512i>().add(output), row);
        }
    }
}

/// The least that quants of a type are in a plane.
const fn least<Q: Quants>() -> usize {
    if Q::MINIMA { 0 } else { 128 - Q::CENTRE as usize }
}

/// What quants of up to five bits stand for before they are scaled, from the least one on.
const fn values<Q: Quants>() -> [f32; VALUES] {
    let mut values = [0.0; VALUES];
    let mut at = 0;
    while at < VALUES {
        values[at] = (least::<Q>() + at) as f32;
        at += 1;
    }
    values
}

/// Rounds sub-block `at` of the group at `group`, whose quants have four bits. What they become is looked up
/// in a table that an output shares with the next one.
///
/// # Safety
/// The group has the sub-block.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn round_nibbles<Q: Quants>(group: *const u8, at: usize, tile: &mut MaybeUninit<TileBlock>) {
    let (record, sub_block) = Q::places(at);
    // SAFETY: the caller vouches for the record.
    let ([scales, _], [minima, _]) = unsafe {
        let sub_block = group.add(sub_block);
        for line in 0..Q::SUB_BLOCK_BYTES.div_ceil(LINE_BYTES) {
            let ahead = sub_block.wrapping_add(AHEAD_BYTES + line * LINE_BYTES);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        int8::scales::<Q>(group.add(record), sub_block)
    };
    let values = const { values::<Q>() };
    // SAFETY: sixteen values follow each other.
    let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    // SAFETY: the caller vouches for the sub-block.
    let vectors = std::array::from_fn(|j| unsafe {
        _mm512_loadu_si512(group.add(sub_block + j * VECTOR_BYTES).cast())
    });
    let scaled =
        Scaled { outputs: by_outputs(vectors), scales: floats(scales), minima: floats(minima) };
    // Else the compiler takes parts out of registers by shuffles, all of which one port does.
    let scaled = std::hint::black_box(&scaled);
    // Of a word, the nibbles in the order in which a row has their inputs.
    let shifts = _mm512_set_epi64(
        0x000c_000c_000c_000c,
        0x000c_000c_000c_000c,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0x0008_0008_0008_0008,
        0x0008_0008_0008_0008,
        0,
        0,
    );
    let (low_bits, second) = (_mm512_set1_epi16(15), _mm512_set1_epi16(16));
    for output in (0..GROUP).step_by(2) {
        let meant = |output: usize| {
            let scale = _mm512_set1_ps(scaled.scales[output]);
            _mm512_fmadd_ps(values, scale, _mm512_set1_ps(scaled.minima[output]))
        };
        let quants = |output: usize| {
            // SAFETY: an output's quants are sixteen bytes.
            let quants = unsafe { _mm_load_si128(scaled.outputs.of(output).as_ptr().cast()) };
            _mm512_srlv_epi16(_mm512_broadcast_i32x4(quants), shifts)
        };
        let table = words(_mm512_cvtne2ps_pbh(meant(output + 1), meant(output)));
        let places = _mm512_and_si512(quants(output), low_bits);
        keep(tile, output, _mm512_permutexvar_epi16(places, table));
        // The lower bits of the quant, and where the second half begins.
        let places = _mm512_ternarylogic_epi32::<0xf8>(second, quants(output + 1), low_bits);
        keep(tile, output + 1, _mm512_permutexvar_epi16(places, table));
    }
}

/// A sub-block of four bits by outputs.
#[repr(C, align(64))]
struct Scaled {
    outputs: Outputs,
    scales: [f32; GROUP],
    minima: [f32; GROUP],
}

/// Sixteen bytes of each of sixteen outputs.
#[repr(C, align(64))]
struct Outputs([[u8; 16]; GROUP]);

impl Outputs {
    #[inline(always)]
    fn of(&self, output: usize) -> &[u8; 16] {
        // Each register has one output of every quarter.
        &self.0[output % 4 * 4 + output / 4]
    }
}

/// Four vectors that have a word of each output in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn by_outputs([a, b, c, d]: [__m512i; 4]) -> Outputs {
    let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let registers = [
        _mm512_unpacklo_epi64(low, low2),
        _mm512_unpackhi_epi64(low, low2),
        _mm512_unpacklo_epi64(high, high2),
        _mm512_unpackhi_epi64(high, high2),
    ];
    // SAFETY: the types are the same 256 bytes.
    unsafe { std::mem::transmute::<[__m512i; 4], Outputs>(registers) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats(register: __m512) -> [f32; GROUP] {
    // SAFETY: the types are the same 64 bytes.
    unsafe { std::mem::transmute::<__m512, [f32; GROUP]>(register) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(rounded: __m512bh) -> __m512i {
    // SAFETY: the types are the same 64 bytes.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) }
}

/// Writes an output's row.
#[inline]
#[target_feature(enable = "avx512f")]
fn keep(tile: &mut MaybeUninit<TileBlock>, output: usize, row: __m512i) {
    assert!(output < GROUP, "a row of the tile");
    // SAFETY: a row of a tile is as long as a register.
    unsafe { _mm512_store_si512(tile.as_mut_ptr().cast::<__m512i>().add(output), row) };
}

/// Rounds a plane. What a quant of five bits becomes is looked up in a table of the output.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn round_plane<Q: Quants>(plane: &Plane, tile: &mut MaybeUninit<TileBlock>) {
    let first = (least::<Q>() as u8).wrapping_neg().cast_signed();
    let first = _mm512_set1_epi8(if Q::BITS <= 5 { first } else { 0 });
    let order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    let half = |half: usize| {
        let vectors = std::array::from_fn(|j| {
            let quants = plane.quants[4 * half + j].0.as_ptr();
            // SAFETY: a vector of a plane is as long as a register.
            _mm512_add_epi8(unsafe { _mm512_load_si512(quants.cast()) }, first)
        });
        by_outputs(vectors)
    };
    let halves = [half(0), half(1)];
    // As above.
    let halves = std::hint::black_box(&halves);
    let order = _mm512_castsi512_si128(order);
    let quants = |half: usize, output: usize| {
        // SAFETY: an output's quants are sixteen bytes.
        let quants = unsafe { _mm_load_si128(halves[half].of(output).as_ptr().cast()) };
        _mm_shuffle_epi8(quants, order)
    };
    let values = const { values::<Q>() };
    let scale = |half: usize, output: usize| _mm512_set1_ps(plane.scales[half][output]);
    let minimum = |half: usize, output: usize| _mm512_set1_ps(plane.minima[half][output]);
    for output in 0..GROUP {
        let row = if Q::BITS == 5 {
            let meant = |at: usize| {
                // SAFETY: there are two registers of values.
                let values = unsafe { _mm512_loadu_ps(values[at..at + 16].as_ptr()) };
                _mm512_fmadd_ps(values, scale(0, output), minimum(0, output))
            };
            let table = words(_mm512_cvtne2ps_pbh(meant(16), meant(0)));
            let quants = _mm256_set_m128i(quants(1, output), quants(0, output));
            _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(quants), table)
        } else {
            let weights = |half: usize| {
                let quants = _mm512_cvtepu8_epi32(quants(half, output));
                let quants = _mm512_cvtepi32_ps(quants);
                _mm512_fmadd_ps(quants, scale(half, output), minimum(half, output))
            };
            words(_mm512_cvtne2ps_pbh(weights(1), weights(0)))
        };
        keep(tile, output, row);
    }
}
