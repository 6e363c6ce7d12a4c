//! AVX-512 with VNNI: an output in every 32-bit lane, four of its products in one instruction.

use std::{arch::x86_64::*, ops::Range};

use super::{Int8, Panel, Sums, Words};
use crate::{
    kernels::{plane::Plane, vector::Avx512},
    matrix::{
        GROUP, SUB_BLOCK,
        quants::{NIBBLE_BYTES, Quants, VECTOR_BYTES},
    },
    memory::LINE_BYTES,
    operand::TOKEN_BYTES,
};

/// The quants that stand for zero here, in all types without minima: rows bring their sums times this,
/// so that nothing else is to be subtracted.
const CENTRE: u8 = 128;

/// From what is multiplied to what is asked for meanwhile, where weights come from memory: a few
/// sub-blocks. Several rows' instructions fill the window in which the CPU looks for loads itself, and its
/// prefetchers stop at every page.
const AHEAD_BYTES: usize = 2560;

/// A sub-block in registers.
struct Registers {
    quants: [__m512i; 8],
    scales: [__m512; 2],
    minima: [__m512; 2],
}

impl Int8 for Avx512 {
    const PANEL_ROWS: usize = 16;
    const FEW_ROWS: usize = 32;
    type Session = ();

    fn begin(self) {}

    unsafe fn unpack<Q: Quants>(
        self,
        group: *const u8,
        sub_blocks: Range<usize>,
        planes: &mut [Plane],
    ) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn unpack<Q: Quants>(
            group: *const u8,
            sub_blocks: Range<usize>,
            planes: &mut [Plane],
        ) {
            for (at, plane) in sub_blocks.zip(planes) {
                // SAFETY: the caller vouches for the records, and a plane has room for all registers.
                unsafe {
                    let registers = registers::<Q>(group, at);
                    for (to, from) in plane.quants.iter_mut().zip(registers.quants) {
                        _mm512_store_si512(to.0.as_mut_ptr().cast(), from);
                    }
                    for half in 0..2 {
                        _mm512_store_ps(plane.scales[half].as_mut_ptr(), registers.scales[half]);
                        _mm512_store_ps(plane.minima[half].as_mut_ptr(), registers.minima[half]);
                    }
                }
            }
        }
        // SAFETY: `self` exists, so the CPU has the features; the rest is the caller's.
        unsafe { unpack::<Q>(group, sub_blocks, planes) }
    }

    unsafe fn few<Q: Quants>(
        self,
        group: *const u8,
        sub_blocks: Range<usize>,
        add: bool,
        fetch: bool,
        sums: Sums<'_, '_>,
    ) {
        // SAFETY: `self` exists, so the CPU has the features; the rest is the caller's.
        unsafe {
            for_rows!(sums.panel.width, C => few::<Q, C>(self, group, sub_blocks, add, fetch, sums))
        }
    }

    unsafe fn tile<Q: Quants>(
        self,
        (): &mut (),
        planes: &[Plane],
        add: bool,
        _: Option<Panel>,
        sums: Sums<'_, '_>,
    ) {
        // SAFETY: as above. Only three kinds of types differ here.
        unsafe {
            match (Q::MINIMA, Q::HALVES) {
                (true, _) => tile_of::<true, false>(self, planes, add, sums),
                (false, false) => tile_of::<false, false>(self, planes, add, sums),
                (false, true) => tile_of::<false, true>(self, planes, add, sums),
            }
        }
    }
}

unsafe fn tile_of<const MINIMA: bool, const HALVES: bool>(
    kernels: Avx512,
    planes: &[Plane],
    add: bool,
    sums: Sums<'_, '_>,
) {
    // SAFETY: the caller's promises.
    unsafe {
        for_rows!(sums.panel.width, C => tile::<MINIMA, HALVES, C>(kernels, planes, add, sums));
    }
}

/// Products of a group with `C` rows, straight from its records.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn few<Q: Quants, const C: usize>(
    kernels: Avx512,
    group: *const u8,
    sub_blocks: Range<usize>,
    add: bool,
    fetch: bool,
    mut sums: Sums<'_, '_>,
) {
    let mut totals = [_mm512_setzero_ps(); C];
    if add {
        for c in 0..C {
            totals[c] = kernels.load_some(sums.row(c));
        }
    }
    for (at, sub_block) in sub_blocks.enumerate() {
        if fetch {
            let ahead = group.wrapping_add(Q::places(sub_block).1 + AHEAD_BYTES);
            for line in 0..Q::SUB_BLOCK_BYTES.div_ceil(LINE_BYTES) {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * LINE_BYTES).cast());
            }
        }
        // SAFETY: the caller vouches for the records and the panel.
        unsafe {
            let registers = registers::<Q>(group, sub_block);
            let record = sums.panel.records.add(at * TOKEN_BYTES * C);
            for_each_row!(c < C {
                totals[c] = if Q::MINIMA {
                    add_row::<true, false, C>(&registers, record, c, totals[c])
                } else if Q::HALVES {
                    add_row::<false, true, C>(&registers, record, c, totals[c])
                } else {
                    add_row::<false, false, C>(&registers, record, c, totals[c])
                };
            });
        }
    }
    for c in 0..C {
        kernels.store_some(sums.row(c), totals[c]);
    }
}

/// Products of unpacked sub-blocks with `C` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const MINIMA: bool, const HALVES: bool, const C: usize>(
    kernels: Avx512,
    planes: &[Plane],
    add: bool,
    mut sums: Sums<'_, '_>,
) {
    let mut totals = [_mm512_setzero_ps(); C];
    if add {
        for c in 0..C {
            totals[c] = kernels.load_some(sums.row(c));
        }
    }
    for (at, plane) in planes.iter().enumerate() {
        // SAFETY: planes are aligned, and the caller vouches for the panel.
        unsafe {
            let registers = Registers {
                quants: std::array::from_fn(|j| {
                    _mm512_load_si512(plane.quants[j].0.as_ptr().cast())
                }),
                scales: plane.scales.each_ref().map(|scales| _mm512_load_ps(scales.as_ptr())),
                minima: plane.minima.each_ref().map(|minima| _mm512_load_ps(minima.as_ptr())),
            };
            let record = sums.panel.records.add(at * TOKEN_BYTES * C);
            for_each_row!(c < C {
                totals[c] = add_row::<MINIMA, HALVES, C>(&registers, record, c, totals[c]);
            });
        }
    }
    for c in 0..C {
        kernels.store_some(sums.row(c), totals[c]);
    }
}

/// `total` and the products of a sub-block with row `c` of a panel of `C` rows.
#[inline(always)]
unsafe fn add_row<const MINIMA: bool, const HALVES: bool, const C: usize>(
    sub_block: &Registers,
    record: *const u8,
    c: usize,
    mut total: __m512,
) -> __m512 {
    // SAFETY: the caller has the CPU's features and vouches for the record.
    unsafe {
        let word = |first: usize| record.add(first + 4 * c).cast::<i32>().read_unaligned();
        let float = |first: usize| _mm512_set1_ps(f32::from_bits(word(first).cast_unsigned()));
        let four = |j: usize| {
            let quants = record.add(c * SUB_BLOCK + 4 * j).cast::<i32>().read_unaligned();
            _mm512_set1_epi32(quants)
        };
        if MINIMA {
            total = _mm512_fmadd_ps(sub_block.minima[0], float(Words::scaled_sums(C)), total);
        }
        let low_sum = || _mm512_set1_epi32(word(Words::low_sums(C)));
        let high_sum = || _mm512_set1_epi32(word(Words::high_sums(C)));
        let scale = float(Words::scales(C));
        if HALVES {
            let mut dots = [low_sum(), high_sum()];
            for half in 0..2 {
                for j in 4 * half..4 * half + 4 {
                    dots[half] = _mm512_dpbusd_epi32(dots[half], sub_block.quants[j], four(j));
                }
                let scale = _mm512_mul_ps(sub_block.scales[half], scale);
                total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[half]), scale, total);
            }
        } else {
            let mut dot = if MINIMA {
                _mm512_setzero_si512()
            } else {
                _mm512_add_epi32(low_sum(), high_sum())
            };
            for j in 0..8 {
                dot = _mm512_dpbusd_epi32(dot, sub_block.quants[j], four(j));
            }
            let scale = _mm512_mul_ps(sub_block.scales[0], scale);
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, total);
        }
        total
    }
}

/// Sub-block `at` of the group at `group`.
#[inline(always)]
unsafe fn registers<Q: Quants>(group: *const u8, at: usize) -> Registers {
    let (record, sub_block) = Q::places(at);
    // SAFETY: the caller has the CPU's features and vouches for the records.
    unsafe {
        let (record, sub_block) = (group.add(record), group.add(sub_block));
        let (scales, minima) = scales::<Q>(record, sub_block);
        Registers { quants: quants::<Q>(sub_block), scales, minima }
    }
}

#[inline(always)]
unsafe fn quants<Q: Quants>(sub_block: *const u8) -> [__m512i; 8] {
    // SAFETY: the caller has the CPU's features and vouches for the sub-block.
    unsafe {
        let vector = |at: usize| _mm512_loadu_si512(sub_block.add(at * VECTOR_BYTES).cast());
        if Q::BITS == 8 {
            return std::array::from_fn(vector);
        }
        let mask = _mm512_set1_epi8(15);
        let mut quants = [_mm512_setzero_si512(); 8];
        for j in 0..4 {
            let both = vector(j);
            quants[j] = _mm512_and_si512(both, mask);
            quants[j + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
        }
        if Q::BITS == 5 {
            let fifth = _mm512_set1_epi8(16);
            for j in 0..8 {
                let bits = sub_block.add(NIBBLE_BYTES + 8 * j).cast::<u64>().read_unaligned();
                quants[j] = _mm512_mask_add_epi8(quants[j], bits, quants[j], fifth);
            }
        }
        if Q::BITS == 6 {
            let pair = _mm512_set1_epi8(0x30);
            for four in 0..2 {
                let bits = vector(4 + four);
                let shifted = [
                    _mm512_slli_epi16::<4>(bits),
                    _mm512_slli_epi16::<2>(bits),
                    bits,
                    _mm512_srli_epi16::<2>(bits),
                ];
                for j in 0..4 {
                    let high = _mm512_and_si512(shifted[j], pair);
                    quants[4 * four + j] = _mm512_or_si512(quants[4 * four + j], high);
                }
            }
        }
        if !Q::MINIMA {
            let up = _mm512_set1_epi8((CENTRE - Q::CENTRE).cast_signed());
            for quants in &mut quants {
                *quants = _mm512_add_epi8(*quants, up);
            }
        }
        quants
    }
}

/// The scales of a sub-block's halves, and the minima.
///
/// # Safety
/// The CPU has the features of [`Avx512`], and the record and its sub-block are there.
#[inline(always)]
pub(in crate::kernels) unsafe fn scales<Q: Quants>(
    record: *const u8,
    sub_block: *const u8,
) -> ([__m512; 2], [__m512; 2]) {
    // SAFETY: the caller has the CPU's features and vouches for the record.
    unsafe {
        let halves = |from: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        let bytes = |at: usize| _mm_loadu_si128(sub_block.add(at).cast());
        let unsigned = |at: usize| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(at)));
        let signed = |at: usize| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes(at)));
        let scales = if !Q::SUPER {
            [halves(sub_block.add(Q::SCALES)); 2]
        } else if Q::HALVES {
            let scale = halves(record);
            let [low, high] = [signed(Q::SCALES), signed(Q::MORE_SCALES)];
            [_mm512_mul_ps(scale, low), _mm512_mul_ps(scale, high)]
        } else {
            [_mm512_mul_ps(halves(record), unsigned(Q::SCALES)); 2]
        };
        let minima = if !Q::MINIMA {
            let centre = _mm512_set1_ps(-f32::from(CENTRE));
            [_mm512_mul_ps(scales[0], centre), _mm512_mul_ps(scales[1], centre)]
        } else if Q::SUPER {
            let minima = _mm512_mul_ps(halves(record.add(2 * GROUP)), unsigned(Q::MORE_SCALES));
            [_mm512_sub_ps(_mm512_setzero_ps(), minima); 2]
        } else {
            [halves(sub_block.add(Q::MORE_SCALES)); 2]
        };
        (scales, minima)
    }
}
