//! AMX: the whole numbers of a sub-block for sixteen rows and sixteen outputs in one instruction.
//!
//! Tiles and vectors share ports: for some hundred cycles after any instruction with tiles, vectors have one
//! port of two for multiplications and conversions, and both only for additions. So the scales of a sub-block
//! take longer than the products of the next, which are made meanwhile.

use std::{arch::x86_64::*, ops::Range};

use super::{Int8, Panel, Sums, Words};
use crate::{
    kernels::{
        amx::{Amx, TILE_BYTES, TILE_ROWS, TileShapes, Tiles},
        plane::Plane,
        vector::Avx512,
    },
    matrix::{GROUP, SUB_BLOCK, quants::Quants},
    operand::TOKEN_BYTES,
};

/// Bytes of a row of products, and of four inputs of all outputs.
const LINE: usize = 4 * GROUP;

/// Tiles 0 and 1 are products, 2 and 3 rows of a panel, 4 and 5 a sub-block's quants.
static SHAPES: TileShapes = {
    let (dots, rows, quants) = ((TILE_ROWS, LINE), (TILE_ROWS, SUB_BLOCK), (SUB_BLOCK / 4, LINE));
    TileShapes::new([dots, dots, rows, rows, quants, quants, dots, dots])
};

/// Products of a sub-block: `[rows][outputs]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Dots([[i32; GROUP]; TILE_ROWS]);

const _: () = assert!(size_of::<Dots>() == TILE_BYTES);

/// Sub-blocks that are begun before they are scaled.
const BEGUN: usize = 3;

/// The products under way: those that are scaled next are in memory, in the place of their parity, and those
/// of the two sub-blocks after them still in tiles.
pub(in crate::kernels) struct Pipeline {
    tiles: Tiles,
    dots: [Dots; 2],
    /// Whether they are those of the first sub-blocks of the panel that comes next.
    filled: bool,
}

impl Int8 for Amx {
    const PANEL_ROWS: usize = Avx512::PANEL_ROWS;
    const FEW_ROWS: usize = 0;
    type Session = Pipeline;

    fn begin(self) -> Pipeline {
        let dots = [Dots([[0; GROUP]; TILE_ROWS]); 2];
        Pipeline { tiles: Tiles::new(self, &SHAPES), dots, filled: false }
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

    unsafe fn few<Q: Quants>(
        self,
        _: *const u8,
        _: Range<usize>,
        _: bool,
        _: bool,
        _: Sums<'_, '_>,
    ) {
        unreachable!("no number of rows is few");
    }

    // With few sub-blocks a call would take a tenth as long as what it does.
    #[inline(always)]
    unsafe fn tile<Q: Quants>(
        self,
        pipeline: &mut Pipeline,
        planes: &[Plane],
        add: bool,
        next: Option<Panel>,
        sums: Sums<'_, '_>,
    ) {
        // The tiles read sixteen rows of every panel.
        let enough = |panel: Panel| panel.width * TOKEN_BYTES >= TILE_ROWS * SUB_BLOCK;
        assert!(enough(sums.panel) && next.is_none_or(enough), "panels of at least eleven rows");
        let kernels = self.without_amx().without_bf16();
        // SAFETY: the caller's promises.
        unsafe {
            for_rows!(sums.panel.width, C => {
                tile::<Q, C>(kernels, pipeline, planes, add, next, sums)
            });
        }
    }
}

/// Adds products with `C` rows.
///
/// # Safety
/// As `Int8::tile`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn tile<Q: Quants, const C: usize>(
    kernels: Avx512,
    pipeline: &mut Pipeline,
    planes: &[Plane],
    add: bool,
    next: Option<Panel>,
    mut sums: Sums<'_, '_>,
) {
    let mut totals = [_mm512_setzero_ps(); C];
    if add {
        for c in 0..C {
            totals[c] = kernels.load_some(sums.row(c));
        }
    }
    // SAFETY: the caller vouches for the panels.
    let totals = unsafe { pipeline.run::<Q, C>(planes, sums.panel.records, next, totals) };
    for c in 0..C {
        kernels.store_some(sums.row(c), totals[c]);
    }
}

impl Pipeline {
    /// Adds products of all sub-blocks, scaled, to the totals of `C` rows, and may begin with those of the next
    /// panel.
    ///
    /// # Safety
    /// The CPU has AVX-512. The panels have as many sub-blocks, and sixteen rows can be read of each, whatever
    /// is in them.
    #[inline(always)]
    unsafe fn run<Q: Quants, const C: usize>(
        &mut self,
        planes: &[Plane],
        records: *const u8,
        next: Option<Panel>,
        totals: [__m512; C],
    ) -> [__m512; C] {
        // A copy of its own is in registers, whatever callers do with theirs.
        let mut totals = totals;
        let Self { tiles, dots: [even, odd], filled } = self;
        let record = |at: usize| records.wrapping_add(at * TOKEN_BYTES * C);
        // Parities go on from one panel to the next.
        let next = next.filter(|_| planes.len() >= BEGUN && planes.len().is_multiple_of(2));
        // What is begun while sub-block `at` is scaled.
        let after = |at: usize| {
            let at = at + BEGUN;
            if let Some(plane) = planes.get(at) {
                return Some((record(at), plane));
            }
            let Panel { records, width } = next?;
            let at = at - planes.len();
            Some((records.wrapping_add(at * TOKEN_BYTES * width), planes.get(at)?))
        };
        // SAFETY: the caller vouches for the panels.
        unsafe {
            if !*filled {
                if let Some(plane) = planes.first() {
                    begin::<0>(tiles, record(0), plane);
                    store::<0>(tiles, even);
                }
                if let Some(plane) = planes.get(1) {
                    begin::<1>(tiles, record(1), plane);
                }
                if let Some(plane) = planes.get(2) {
                    begin::<0>(tiles, record(2), plane);
                }
            }
            for at in (0..planes.len()).step_by(2) {
                let scaled = Scaled { plane: &planes[at], record: record(at), dots: even };
                step::<Q, C, 1>(tiles, scaled, odd, after(at), &mut totals);
                let Some(plane) = planes.get(at + 1) else { break };
                let scaled = Scaled { plane, record: record(at + 1), dots: odd };
                step::<Q, C, 0>(tiles, scaled, even, after(at + 1), &mut totals);
            }
        }
        *filled = next.is_some();
        totals
    }
}

/// Products of a sub-block with the rows of a panel, and what scales them.
struct Scaled<'a> {
    plane: &'a Plane,
    record: *const u8,
    dots: &'a Dots,
}

/// Scales products, writes those in tile `D` to `last`, and begins in their place those of `next`: each where the
/// CPU has something else to do while it takes its time.
///
/// # Safety
/// As [`Pipeline::run`].
#[inline(always)]
unsafe fn step<Q: Quants, const C: usize, const D: u8>(
    tiles: &Tiles,
    scaled: Scaled<'_>,
    last: &mut Dots,
    next: Option<(*const u8, &Plane)>,
    totals: &mut [__m512; C],
) {
    // SAFETY: the caller's promises.
    unsafe {
        store::<D>(tiles, last);
        scale::<Q, C, 0, 4>(&scaled, totals);
        if let Some((record, _)) = next {
            load_rows::<D>(tiles, record);
        }
        scale::<Q, C, 4, 8>(&scaled, totals);
        if let Some((_, plane)) = next {
            load_quants::<D>(tiles, plane);
        }
        scale::<Q, C, 8, 12>(&scaled, totals);
        if next.is_some() {
            multiply::<D>(tiles);
        }
        scale::<Q, C, 12, 16>(&scaled, totals);
    }
}

/// Begins the products of a sub-block in tile `D`.
///
/// # Safety
/// Sixteen rows can be read from `record` on.
#[inline(always)]
unsafe fn begin<const D: u8>(tiles: &Tiles, record: *const u8, plane: &Plane) {
    // SAFETY: the caller vouches for the record.
    unsafe { load_rows::<D>(tiles, record) };
    load_quants::<D>(tiles, plane);
    multiply::<D>(tiles);
}

/// Reads a sub-block of a panel for the products in tile `D`.
///
/// # Safety
/// Sixteen rows can be read from `record` on.
#[inline(always)]
unsafe fn load_rows<const D: u8>(tiles: &Tiles, record: *const u8) {
    // SAFETY: the caller vouches for the record.
    unsafe {
        match D {
            0 => tiles.load::<2>(record, SUB_BLOCK),
            _ => tiles.load::<3>(record, SUB_BLOCK),
        }
    }
}

/// Reads a sub-block's quants for the products in tile `D`.
#[inline(always)]
fn load_quants<const D: u8>(tiles: &Tiles, plane: &Plane) {
    let quants = plane.quants.as_ptr().cast();
    // SAFETY: quants have the size of a tile.
    unsafe {
        match D {
            0 => tiles.load::<4>(quants, LINE),
            _ => tiles.load::<5>(quants, LINE),
        }
    }
}

/// Makes tile `D` the products of the rows and the quants that were read for it.
#[inline(always)]
fn multiply<const D: u8>(tiles: &Tiles) {
    tiles.zero::<D>();
    match D {
        0 => tiles.multiply_bytes::<D, 2, 4>(),
        _ => tiles.multiply_bytes::<D, 3, 5>(),
    }
}

/// Writes the products in tile `D`.
#[inline(always)]
fn store<const D: u8>(tiles: &Tiles, dots: &mut Dots) {
    // SAFETY: products have the size of a tile.
    unsafe { tiles.store::<D>((&raw mut *dots).cast(), LINE) };
}

/// Adds products, scaled, to the totals of rows `FROM` to `TO` of `C`.
///
/// # Safety
/// The CPU has AVX-512, and the record is there.
#[inline(always)]
unsafe fn scale<Q: Quants, const C: usize, const FROM: usize, const TO: usize>(
    &Scaled { plane, record, dots }: &Scaled<'_>,
    totals: &mut [__m512; C],
) {
    // SAFETY: planes and products are aligned, and the caller vouches for the record.
    unsafe {
        let scales = _mm512_load_ps(plane.scales[0].as_ptr());
        let minima = _mm512_load_ps(plane.minima[0].as_ptr());
        for_each_row!(c < C {
            if FROM <= c && c < TO {
                let word = |first: usize| record.add(first + 4 * c).cast::<i32>().read_unaligned();
                let float = |first: usize| _mm512_set1_ps(f32::from_bits(word(first).cast_unsigned()));
                let mut dot = _mm512_load_si512(dots.0[c].as_ptr().cast());
                let mut total = totals[c];
                if Q::MINIMA {
                    total = _mm512_fmadd_ps(minima, float(Words::scaled_sums(C)), total);
                } else {
                    let sum = word(Words::low_sums(C)) + word(Words::high_sums(C));
                    dot = _mm512_add_epi32(dot, _mm512_set1_epi32(sum));
                }
                let scale = _mm512_mul_ps(scales, float(Words::scales(C)));
                totals[c] = _mm512_fmadd_ps(to_floats(dot), scale, total);
            }
        });
    }
}

/// Whole numbers of magnitudes below 2^22 as floats, by two additions, which have both ports where a conversion
/// would have one: the last bit of the float 1.5 * 2^23 stands for one, so that a whole number added to its
/// bits is added to it.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn to_floats(whole: __m512i) -> __m512 {
    const BASE: f32 = 1.5 * (1u32 << 23) as f32;
    // SAFETY: the caller has the CPU's features.
    unsafe {
        let base = _mm512_set1_ps(BASE);
        let sum = _mm512_add_epi32(_mm512_castps_si512(base), whole);
        _mm512_sub_ps(_mm512_castsi512_ps(sum), base)
    }
}
