//! In plain Rust: what the others are tested against.

use std::ops::Range;

use half::f16;

use super::{Int8, Panel, Sums, Words};
use crate::{
    kernels::{plane::Plane, scalar::Scalar},
    matrix::{
        GROUP, SUB_BLOCK,
        quants::{NIBBLE_BYTES, Quants, VECTOR_BYTES},
    },
    operand::TOKEN_BYTES,
};

impl Int8 for Scalar {
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
        for (at, plane) in sub_blocks.zip(planes) {
            let (record, sub_block) = Q::places(at);
            // SAFETY: the caller vouches for the records.
            let (header, sub_block) = unsafe {
                (
                    std::slice::from_raw_parts(group.add(record), Q::HEADER),
                    std::slice::from_raw_parts(group.add(sub_block), Q::SUB_BLOCK_BYTES),
                )
            };
            for (vector, quants) in plane.quants.iter_mut().enumerate() {
                for (byte, quant) in quants.0.iter_mut().enumerate() {
                    *quant = quant_of::<Q>(sub_block, vector, byte);
                }
            }
            for lane in 0..GROUP {
                let (scales, minima) = scales::<Q>(header, sub_block, lane);
                for half in 0..2 {
                    plane.scales[half][lane] = scales[half];
                    plane.minima[half][lane] = minima[half];
                }
            }
        }
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
        mut sums: Sums<'_, '_>,
    ) {
        let width = sums.panel.width;
        for row in 0..width {
            let mut totals = [0.0; GROUP];
            let outputs = sums.row(row).len();
            if add {
                totals[..outputs].copy_from_slice(sums.row(row));
            }
            for (at, plane) in planes.iter().enumerate() {
                // SAFETY: the caller vouches for the panel.
                let record = unsafe {
                    let record = sums.panel.records.add(at * TOKEN_BYTES * width);
                    std::slice::from_raw_parts(record, TOKEN_BYTES * width)
                };
                add_sub_block::<Q>(plane, record, width, row, &mut totals);
            }
            sums.row(row).copy_from_slice(&totals[..outputs]);
        }
    }
}

/// Adds the products of one row with a sub-block.
fn add_sub_block<Q: Quants>(
    plane: &Plane,
    record: &[u8],
    width: usize,
    row: usize,
    totals: &mut [f32; GROUP],
) {
    let word = |first: usize| -> [u8; 4] {
        record[first + 4 * row..][..4].try_into().expect("four bytes")
    };
    let float = |first: usize| f32::from_le_bytes(word(first));
    let (scale, scaled_sum) = (float(Words::scales(width)), float(Words::scaled_sums(width)));
    let sums = [Words::low_sums(width), Words::high_sums(width)]
        .map(|first| i32::from_le_bytes(word(first)) / -128);
    let row = &record[row * SUB_BLOCK..][..SUB_BLOCK];
    let mut dots = [[0i32; GROUP]; 2];
    for (vector, (quants, row)) in plane.quants.iter().zip(row.chunks_exact(4)).enumerate() {
        let row: [i16; 4] = std::array::from_fn(|at| i16::from(row[at].cast_signed()));
        let dots = &mut dots[vector / 4];
        for (dot, quants) in dots.iter_mut().zip(quants.0.chunks_exact(4)) {
            for (&quant, row) in quants.iter().zip(row) {
                *dot += i32::from(i16::from(quant)) * i32::from(row);
            }
        }
    }
    let centre = i32::from(Q::CENTRE);
    for lane in 0..GROUP {
        let total = &mut totals[lane];
        if Q::MINIMA {
            *total = plane.minima[0][lane].mul_add(scaled_sum, *total);
        }
        let centred = [0, 1].map(|half| dots[half][lane] - centre * sums[half]);
        if Q::HALVES {
            for half in 0..2 {
                let scale = plane.scales[half][lane] * scale;
                *total = (centred[half] as f32).mul_add(scale, *total);
            }
        } else {
            let scale = plane.scales[0][lane] * scale;
            *total = ((centred[0] + centred[1]) as f32).mul_add(scale, *total);
        }
    }
}

/// Byte `byte` of vector `vector` of a sub-block.
fn quant_of<Q: Quants>(sub_block: &[u8], vector: usize, byte: usize) -> u8 {
    if Q::BITS == 8 {
        return sub_block[vector * VECTOR_BYTES + byte];
    }
    let nibble = sub_block[vector % 4 * VECTOR_BYTES + byte] >> (vector / 4 * 4) & 15;
    let high = match Q::BITS {
        5 => sub_block[NIBBLE_BYTES + vector * 8 + byte / 8] >> (byte % 8) & 1,
        6 => {
            let pairs = sub_block[NIBBLE_BYTES + vector / 4 * VECTOR_BYTES + byte];
            pairs >> (vector % 4 * 2) & 3
        }
        _ => 0,
    };
    nibble | high << 4
}

/// The scales and minima of both halves of one output.
fn scales<Q: Quants>(header: &[u8], sub_block: &[u8], lane: usize) -> ([f32; 2], [f32; 2]) {
    let half = |bytes: &[u8], first: usize| {
        let bytes = &bytes[first + 2 * lane..][..2];
        f16::from_le_bytes(bytes.try_into().expect("two bytes")).to_f32()
    };
    let scales = match (Q::SUPER, Q::HALVES) {
        (false, _) => [half(sub_block, Q::SCALES); 2],
        (true, false) => [half(header, 0) * f32::from(sub_block[Q::SCALES + lane]); 2],
        (true, true) => [Q::SCALES, Q::MORE_SCALES]
            .map(|first| half(header, 0) * f32::from(sub_block[first + lane].cast_signed())),
    };
    let minima = match (Q::MINIMA, Q::SUPER) {
        (false, _) => scales.map(|scale| -f32::from(Q::CENTRE) * scale),
        (true, false) => [half(sub_block, Q::MORE_SCALES); 2],
        (true, true) => {
            let minimum = f32::from(sub_block[Q::MORE_SCALES + lane]);
            [-half(header, 2 * GROUP) * minimum; 2]
        }
    };
    (scales, minima)
}
