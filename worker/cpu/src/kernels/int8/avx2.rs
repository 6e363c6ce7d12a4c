//! AVX2: eight outputs at once, products of bytes added up in 16 bits as long as they fit.

use std::{arch::x86_64::*, ops::Range};

use super::{Int8, Panel, Sums, Words};
use crate::{
    kernels::{plane::Plane, vector::Avx2},
    matrix::{
        GROUP, SUB_BLOCK,
        quants::{NIBBLE_BYTES, Quants, VECTOR_BYTES},
    },
    operand::TOKEN_BYTES,
};

/// Lanes of a register.
const LANES: usize = 8;
/// Bytes of a register.
const BYTES: usize = 32;

impl Int8 for Avx2 {
    const PANEL_ROWS: usize = 4;
    const FEW_ROWS: usize = 0;
    type Session = ();

    fn begin(self) {}

    unsafe fn unpack<Q: Quants>(
        self,
        group: *const u8,
        sub_blocks: Range<usize>,
        planes: &mut [Plane],
    ) {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn unpack<Q: Quants>(
            group: *const u8,
            sub_blocks: Range<usize>,
            planes: &mut [Plane],
        ) {
            for (at, plane) in sub_blocks.zip(planes) {
                let (record, sub_block) = Q::places(at);
                // SAFETY: the caller vouches for the records.
                unsafe {
                    let (record, sub_block) = (group.add(record), group.add(sub_block));
                    quants::<Q>(sub_block, plane);
                    for first in [0, LANES] {
                        scales::<Q>(record, sub_block, first, plane);
                    }
                }
            }
        }
        // SAFETY: `self` exists, so the CPU has the features; the rest is the caller's.
        unsafe { unpack::<Q>(group, sub_blocks, planes) }
    }

    unsafe fn few<Q: Quants>(
        self,
        _: *const u8,
        _: Range<usize>,
        _: bool,
        _: bool,
        _: Sums<'_, '_>,
    ) {
        unreachable!("no rows are few")
    }

    unsafe fn tile<Q: Quants>(
        self,
        (): &mut (),
        planes: &[Plane],
        add: bool,
        _: Option<Panel>,
        sums: Sums<'_, '_>,
    ) {
        // SAFETY: as above. Types of as many bits differ in nothing but their minima.
        unsafe {
            match (Q::BITS, Q::MINIMA) {
                (4, true) => tile_of::<4, true>(planes, add, sums),
                (4, false) => tile_of::<4, false>(planes, add, sums),
                (5, true) => tile_of::<5, true>(planes, add, sums),
                (5, false) => tile_of::<5, false>(planes, add, sums),
                (6, false) => tile_of::<6, false>(planes, add, sums),
                (8, false) => tile_of::<8, false>(planes, add, sums),
                (bits, _) => unreachable!("no type has {bits} bits"),
            }
        }
    }
}

unsafe fn tile_of<const BITS: usize, const MINIMA: bool>(
    planes: &[Plane],
    add: bool,
    sums: Sums<'_, '_>,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match sums.panel.width {
            1 => tile::<BITS, MINIMA, 1>(planes, add, sums),
            2 => tile::<BITS, MINIMA, 2>(planes, add, sums),
            3 => tile::<BITS, MINIMA, 3>(planes, add, sums),
            4 => tile::<BITS, MINIMA, 4>(planes, add, sums),
            rows => unreachable!("a panel of {rows} rows"),
        }
    }
}

/// Products of unpacked sub-blocks with `C` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const BITS: usize, const MINIMA: bool, const C: usize>(
    planes: &[Plane],
    add: bool,
    mut sums: Sums<'_, '_>,
) {
    for first in [0, LANES] {
        let mut totals = [_mm256_setzero_ps(); C];
        if add {
            for c in 0..C {
                totals[c] = load(sums.row(c), first);
            }
        }
        for (at, plane) in planes.iter().enumerate() {
            // SAFETY: the caller vouches for the panel.
            unsafe {
                let record = sums.panel.records.add(at * TOKEN_BYTES * C);
                for c in 0..C {
                    totals[c] = add_row::<BITS, MINIMA, C>(plane, first, record, c, totals[c]);
                }
            }
        }
        for c in 0..C {
            store(sums.row(c), first, totals[c]);
        }
    }
}

/// `total` and the products of eight outputs from `first` on with row `c` of a panel of `C` rows.
#[inline(always)]
unsafe fn add_row<const BITS: usize, const MINIMA: bool, const C: usize>(
    plane: &Plane,
    first: usize,
    record: *const u8,
    c: usize,
    mut total: __m256,
) -> __m256 {
    // SAFETY: the caller has the CPU's features and vouches for the record.
    unsafe {
        let word = |at: usize| record.add(at + 4 * c).cast::<i32>().read_unaligned();
        let float = |at: usize| _mm256_set1_ps(f32::from_bits(word(at).cast_unsigned()));
        let scales = |half: usize| _mm256_load_ps(plane.scales[half].as_ptr().add(first));
        if MINIMA {
            let minima = _mm256_load_ps(plane.minima[0].as_ptr().add(first));
            total = _mm256_fmadd_ps(minima, float(Words::scaled_sums(C)), total);
        }
        let scale = float(Words::scales(C));
        let (low, high) = (word(Words::low_sums(C)), word(Words::high_sums(C)));
        // The sums come times -128; bytes are centred already.
        let centre = |sum: i32| match (MINIMA, BITS) {
            (true, _) | (_, 8) => 0,
            _ => sum >> (8 - BITS),
        };
        let row = record.add(c * SUB_BLOCK);
        let dots = [half_dot::<BITS>(plane, first, 0, row), half_dot::<BITS>(plane, first, 1, row)];
        if BITS == 6 {
            for (half, sum) in [(0, low), (1, high)] {
                let dot = _mm256_add_epi32(dots[half], _mm256_set1_epi32(centre(sum)));
                let scale = _mm256_mul_ps(scales(half), scale);
                total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, total);
            }
        } else {
            let dot = _mm256_add_epi32(dots[0], dots[1]);
            let dot = _mm256_add_epi32(dot, _mm256_set1_epi32(centre(low + high)));
            total =
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scales(0), scale), total);
        }
        total
    }
}

/// Products of half a sub-block with one row's quants. Pairs of products are at most 2 * 127 times
/// the greatest quant, and as many are added in 16 bits as stay below 2^15.
#[inline(always)]
unsafe fn half_dot<const BITS: usize>(
    plane: &Plane,
    first: usize,
    half: usize,
    row: *const u8,
) -> __m256i {
    // SAFETY: the caller has the CPU's features and vouches for the row.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut words = _mm256_setzero_si256();
        let mut bytes = _mm256_setzero_si256();
        for j in 4 * half..4 * half + 4 {
            let products = products::<BITS>(plane, first, j, row);
            bytes = _mm256_add_epi16(bytes, products);
            let full = match BITS {
                8 => true,
                6 => j % 2 == 1,
                _ => j % 4 == 3,
            };
            if full {
                words = _mm256_add_epi32(words, _mm256_madd_epi16(bytes, ones));
                bytes = _mm256_setzero_si256();
            }
        }
        words
    }
}

/// Sums of pairs of products, in 16 bits.
#[inline(always)]
unsafe fn products<const BITS: usize>(
    plane: &Plane,
    first: usize,
    j: usize,
    row: *const u8,
) -> __m256i {
    // SAFETY: the caller has the CPU's features and vouches for the row.
    unsafe {
        let quants = _mm256_load_si256(plane.quants[j].0.as_ptr().add(4 * first).cast());
        let row = _mm256_set1_epi32(row.add(4 * j).cast::<i32>().read_unaligned());
        if BITS == 8 {
            let quants = _mm256_xor_si256(quants, _mm256_set1_epi8(-128));
            _mm256_maddubs_epi16(_mm256_abs_epi8(quants), _mm256_sign_epi8(row, quants))
        } else {
            _mm256_maddubs_epi16(quants, row)
        }
    }
}

#[inline(always)]
unsafe fn quants<Q: Quants>(sub_block: *const u8, plane: &mut Plane) {
    // SAFETY: the caller has the CPU's features and vouches for the sub-block; a vector of the plane has
    // room for two registers.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        for j in 0..8 {
            for side in 0..2 {
                let load = |vector: usize| {
                    let from = sub_block.add(vector * VECTOR_BYTES + side * BYTES);
                    _mm256_loadu_si256(from.cast())
                };
                let quants = match Q::BITS {
                    8 => load(j),
                    _ if j < 4 => _mm256_and_si256(load(j), mask),
                    _ => _mm256_and_si256(_mm256_srli_epi16::<4>(load(j - 4)), mask),
                };
                let quants = match Q::BITS {
                    5 => {
                        let bits = sub_block.add(NIBBLE_BYTES + 8 * j + 4 * side).cast::<i32>();
                        _mm256_or_si256(quants, fifths(bits.read_unaligned()))
                    }
                    6 => {
                        let bits = load(4 + j / 4);
                        let pairs = match j % 4 {
                            0 => _mm256_slli_epi16::<4>(bits),
                            1 => _mm256_slli_epi16::<2>(bits),
                            2 => bits,
                            _ => _mm256_srli_epi16::<2>(bits),
                        };
                        _mm256_or_si256(quants, _mm256_and_si256(pairs, _mm256_set1_epi8(0x30)))
                    }
                    _ => quants,
                };
                let to = plane.quants[j].0.as_mut_ptr().add(side * BYTES);
                _mm256_store_si256(to.cast(), quants);
            }
        }
    }
}

/// Bit n as the fifth of byte n.
#[inline(always)]
unsafe fn fifths(bits: i32) -> __m256i {
    // SAFETY: the caller has the CPU's features.
    unsafe {
        let spread = _mm256_set_epi64x(
            0x0303_0303_0303_0303,
            0x0202_0202_0202_0202,
            0x0101_0101_0101_0101,
            0,
        );
        let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
        let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
        let found = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, own), own);
        _mm256_and_si256(found, _mm256_set1_epi8(16))
    }
}

/// Writes scales and minima of eight outputs from `first` on.
#[inline(always)]
unsafe fn scales<Q: Quants>(
    record: *const u8,
    sub_block: *const u8,
    first: usize,
    plane: &mut Plane,
) {
    // SAFETY: the caller has the CPU's features and vouches for the record.
    unsafe {
        let halves = |from: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(from.add(2 * first).cast()));
        let bytes = |at: usize| _mm_loadl_epi64(sub_block.add(at + first).cast());
        let unsigned = |at: usize| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes(at)));
        let signed = |at: usize| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes(at)));
        let scales = if !Q::SUPER {
            [halves(sub_block.add(Q::SCALES)); 2]
        } else if Q::HALVES {
            let scale = halves(record);
            let [low, high] = [signed(Q::SCALES), signed(Q::MORE_SCALES)];
            [_mm256_mul_ps(scale, low), _mm256_mul_ps(scale, high)]
        } else {
            [_mm256_mul_ps(halves(record), unsigned(Q::SCALES)); 2]
        };
        let minima = if !Q::MINIMA {
            let centre = _mm256_set1_ps(-f32::from(Q::CENTRE));
            [_mm256_mul_ps(scales[0], centre), _mm256_mul_ps(scales[1], centre)]
        } else if Q::SUPER {
            let minima = _mm256_mul_ps(halves(record.add(2 * GROUP)), unsigned(Q::MORE_SCALES));
            [_mm256_sub_ps(_mm256_setzero_ps(), minima); 2]
        } else {
            [halves(sub_block.add(Q::MORE_SCALES)); 2]
        };
        for half in 0..2 {
            _mm256_store_ps(plane.scales[half].as_mut_ptr().add(first), scales[half]);
            _mm256_store_ps(plane.minima[half].as_mut_ptr().add(first), minima[half]);
        }
    }
}

/// A register of the outputs from `first` on, zeros where there are too few.
#[inline(always)]
fn load(outputs: &[f32], first: usize) -> __m256 {
    let outputs = &outputs[first.min(outputs.len())..];
    let mut padded = [0.0; LANES];
    let len = outputs.len().min(LANES);
    padded[..len].copy_from_slice(&outputs[..len]);
    // SAFETY: the CPU has the features, since this is reached through `Avx2` alone.
    unsafe { _mm256_loadu_ps(padded.as_ptr()) }
}

#[inline(always)]
fn store(outputs: &mut [f32], first: usize, total: __m256) {
    let first = first.min(outputs.len());
    let outputs = &mut outputs[first..];
    let mut padded = [0.0; LANES];
    // SAFETY: as for `load`.
    unsafe { _mm256_storeu_ps(padded.as_mut_ptr(), total) };
    let len = outputs.len().min(LANES);
    outputs[..len].copy_from_slice(&padded[..len]);
}
