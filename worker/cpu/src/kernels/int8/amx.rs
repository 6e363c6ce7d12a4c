//! AMX: the whole numbers of a sub-block for sixteen rows and sixteen outputs in one instruction.
//!
//! Tiles and vector registers share the CPU's ports: while a product of tiles is under way, vectors have half
//! of theirs. So products of a few sub-blocks come first, and then their scales.

use std::{arch::x86_64::*, mem::MaybeUninit, ops::Range};

use super::{Ahead, Int8, Sums, Words};
use crate::{
    kernels::{
        amx::{Amx, TILE_BYTES, TILE_ROWS, TileShapes, Tiles},
        plane::Plane,
        vector::Avx512,
    },
    matrix::{GROUP, SUB_BLOCK, quants::Quants},
    memory::LINE_BYTES,
    operand::TOKEN_BYTES,
};

/// Sub-blocks whose products wait for their scales.
const AT_ONCE: usize = 8;

/// Bytes of a row of products, and of four inputs of all outputs.
const LINE: usize = 4 * GROUP;

/// Tiles 0 to 3 are products, 4 and 5 rows of a panel, 6 and 7 a sub-block's quants.
static SHAPES: TileShapes = {
    let (dots, rows, quants) = ((TILE_ROWS, LINE), (TILE_ROWS, SUB_BLOCK), (SUB_BLOCK / 4, LINE));
    TileShapes::new([dots, dots, dots, dots, rows, rows, quants, quants])
};

/// Products of a sub-block: `[rows][outputs]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Dots([[i32; GROUP]; TILE_ROWS]);

impl Int8 for Amx {
    const PANEL_ROWS: usize = Avx512::PANEL_ROWS;
    const FEW_ROWS: usize = 0;
    type Session = Tiles;

    fn begin(self) -> Tiles {
        Tiles::new(self, &SHAPES)
    }

    unsafe fn unpack<Q: Quants>(
        self,
        group: *const u8,
        sub_blocks: Range<usize>,
        planes: &mut [Plane],
    ) {
        // SAFETY: the caller's promises.
        unsafe { self.without_amx().without_bf16().unpack::<Q>(group, sub_blocks, planes) }
    }

    unsafe fn few<Q: Quants>(self, _: *const u8, _: Range<usize>, _: bool, _: Sums<'_, '_>) {
        unreachable!("no number of rows is few");
    }

    unsafe fn tile<Q: Quants>(
        self,
        tiles: &Tiles,
        planes: &[Plane],
        add: bool,
        ahead: Option<Ahead>,
        sums: Sums<'_, '_>,
    ) {
        let readable = sums.rows.len() * TOKEN_BYTES;
        assert!(readable >= TILE_ROWS * SUB_BLOCK, "a panel of at least eleven rows");
        let kernels = self.without_amx().without_bf16();
        // SAFETY: the caller's promises.
        unsafe {
            for_rows!(sums.rows.len(), C => {
                tile::<Q, C>(kernels, tiles, planes, add, ahead, sums)
            });
        }
    }
}

/// Adds products with `C` rows, a few sub-blocks at a time.
///
/// # Safety
/// As `Int8::tile`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn tile<Q: Quants, const C: usize>(
    kernels: Avx512,
    tiles: &Tiles,
    planes: &[Plane],
    add: bool,
    ahead: Option<Ahead>,
    mut sums: Sums<'_, '_>,
) {
    if let Some(Ahead { from, bytes }) = ahead {
        for line in 0..(planes.len() * bytes).div_ceil(LINE_BYTES) {
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line * LINE_BYTES).cast());
        }
    }
    let mut totals = [_mm512_setzero_ps(); C];
    if add {
        for c in 0..C {
            totals[c] = kernels.load_some(sums.row(c));
        }
    }
    let mut dots = [const { MaybeUninit::uninit() }; AT_ONCE];
    let mut records = sums.panel;
    for planes in planes.chunks(AT_ONCE) {
        let dots = &mut dots[..planes.len()];
        // SAFETY: the caller vouches for the panel; all products are written before they are read.
        unsafe {
            multiply(tiles, planes, records, TOKEN_BYTES * C, dots);
            let dots = &*(&raw const *dots as *const [Dots]);
            scale::<Q, C>(planes, records, dots, &mut totals);
        }
        records = records.wrapping_add(planes.len() * TOKEN_BYTES * C);
    }
    for c in 0..C {
        kernels.store_some(sums.row(c), totals[c]);
    }
}

/// Writes the products of sub-blocks' quants with a panel, whose records are `step` bytes apart.
///
/// # Safety
/// The panel has as many sub-blocks, and sixteen rows can be read of each, whatever is in them.
#[inline(always)]
unsafe fn multiply(
    tiles: &Tiles,
    planes: &[Plane],
    records: *const u8,
    step: usize,
    dots: &mut [MaybeUninit<Dots>],
) {
    const { assert!(size_of::<Dots>() == TILE_BYTES) };
    let mut records = (0..).map(|at| records.wrapping_add(at * step));
    let mut next = || records.next().expect("an endless series");
    // SAFETY: the caller vouches for the panel; products have the size of tiles.
    unsafe {
        let (fours, rest) = planes.as_chunks::<4>();
        let (places, last) = dots.as_chunks_mut::<4>();
        for (planes, places) in fours.iter().zip(places) {
            dot::<0, 4, 6>(tiles, next(), &planes[0]);
            dot::<1, 5, 7>(tiles, next(), &planes[1]);
            dot::<2, 4, 6>(tiles, next(), &planes[2]);
            dot::<3, 5, 7>(tiles, next(), &planes[3]);
            tiles.store::<0>(places[0].as_mut_ptr().cast(), LINE);
            tiles.store::<1>(places[1].as_mut_ptr().cast(), LINE);
            tiles.store::<2>(places[2].as_mut_ptr().cast(), LINE);
            tiles.store::<3>(places[3].as_mut_ptr().cast(), LINE);
        }
        for (plane, place) in rest.iter().zip(last) {
            dot::<0, 4, 6>(tiles, next(), plane);
            tiles.store::<0>(place.as_mut_ptr().cast(), LINE);
        }
    }
}

/// Makes tile `C` the products of a sub-block, by way of tiles `A` and `B`.
///
/// # Safety
/// Sixteen rows can be read from `record` on.
#[inline(always)]
unsafe fn dot<const C: u8, const A: u8, const B: u8>(
    tiles: &Tiles,
    record: *const u8,
    plane: &Plane,
) {
    // SAFETY: the caller vouches for the record; quants have the size of a tile.
    unsafe {
        tiles.zero::<C>();
        tiles.load::<A>(record, SUB_BLOCK);
        tiles.load::<B>(plane.quants.as_ptr().cast(), LINE);
        tiles.multiply_bytes::<C, A, B>();
    }
}

/// Adds products of sub-blocks, scaled, to the totals of `C` rows.
///
/// # Safety
/// The CPU has AVX-512, and the panel as many sub-blocks.
#[inline(always)]
unsafe fn scale<Q: Quants, const C: usize>(
    planes: &[Plane],
    records: *const u8,
    dots: &[Dots],
    totals: &mut [__m512; C],
) {
    for (at, (plane, dots)) in planes.iter().zip(dots).enumerate() {
        // SAFETY: planes and products are aligned, and the caller vouches for the panel.
        unsafe {
            let scales = _mm512_load_ps(plane.scales[0].as_ptr());
            let minima = _mm512_load_ps(plane.minima[0].as_ptr());
            let record = records.add(at * TOKEN_BYTES * C);
            for_each_row!(c < C {
                let word = |first: usize| record.add(first + 4 * c).cast::<i32>().read_unaligned();
                let float =
                    |first: usize| _mm512_set1_ps(f32::from_bits(word(first).cast_unsigned()));
                let mut dot = _mm512_load_si512(dots.0[c].as_ptr().cast());
                let mut total = totals[c];
                if Q::MINIMA {
                    total = _mm512_fmadd_ps(minima, float(Words::scaled_sums(C)), total);
                } else {
                    let sum = word(Words::low_sums(C)) + word(Words::high_sums(C));
                    dot = _mm512_add_epi32(dot, _mm512_set1_epi32(sum));
                }
                let scale = _mm512_mul_ps(scales, float(Words::scales(C)));
                totals[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, total);
            });
        }
    }
}
