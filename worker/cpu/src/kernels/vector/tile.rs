//! Products of a few registers of outputs with a few rows, all sums in registers.
//!
//! A weight is unpacked once and used for every row. Each sum is one chain of fused
//! multiply-adds along the inputs, so its bits depend neither on the tile's size nor on its place.

use crate::{
    disjoint::Rectangle,
    matrix::{FloatType, GROUP, Weights},
    memory::LINE_BYTES,
};

use super::{formats::Format, simd::Simd};

/// `[inputs][C]`
#[derive(Clone, Copy)]
pub(super) struct Panel<const C: usize>(pub(super) *const f32);

impl<const C: usize> Panel<C> {
    /// Input `input` of row `row`.
    ///
    /// # Safety
    /// There are that many inputs, and `row` is below `C`.
    #[inline(always)]
    unsafe fn at(self, input: usize, row: usize) -> f32 {
        // SAFETY: the caller vouches for the input.
        unsafe { *self.0.add(input * C + row) }
    }
}

/// Products of all of `weights` with `C` rows, `V` registers of outputs at a time, into `sums`; on top
/// of what is there if `add`.
///
/// # Safety
/// `weights.check()` passed, `F` is their format, and there are `weights.inputs` inputs.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, F: Format, const V: usize, const C: usize>(
    simd: S,
    weights: Weights<'_, FloatType>,
    inputs: Panel<C>,
    mut sums: Rectangle<'_>,
    add: bool,
) {
    let registers = weights.groups * (GROUP / S::LANES);
    let mut first = 0;
    while first + V <= registers {
        // SAFETY: the registers are inside the groups; the rest is the caller's.
        unsafe { registers_at::<S, F, V, C>(simd, weights, inputs, &mut sums, first, add) };
        first += V;
    }
    while first < registers {
        // SAFETY: as above.
        unsafe { registers_at::<S, F, 1, C>(simd, weights, inputs, &mut sums, first, add) };
        first += 1;
    }
}

/// The same for the `V` registers from number `first` on.
#[inline(always)]
unsafe fn registers_at<S: Simd, F: Format, const V: usize, const C: usize>(
    simd: S,
    weights: Weights<'_, FloatType>,
    inputs: Panel<C>,
    sums: &mut Rectangle<'_>,
    first: usize,
    add: bool,
) {
    let mut records = [weights.records.as_ptr(); V];
    let mut lanes = [0; V];
    let mut totals = [[simd.splat(0.0); C]; V];
    for v in 0..V {
        let output = (first + v) * S::LANES;
        // SAFETY: the group is one of the weights'.
        records[v] = unsafe { records[v].add(output / GROUP * weights.group_bytes) };
        lanes[v] = output % GROUP;
        if add {
            for c in 0..C {
                totals[v][c] = load_some(simd, outputs_from(sums.row(c), output));
            }
        }
    }
    let place = Place {
        records,
        lanes,
        inputs: weights.inputs,
        next_set: (V * S::LANES).div_ceil(GROUP) * weights.group_bytes,
    };
    // SAFETY: the groups have that many records, and there are as many blocks of inputs.
    let totals = unsafe { tile::<S, F, V, C>(simd, place, inputs, totals) };
    for v in 0..V {
        for c in 0..C {
            store_some(simd, outputs_from(sums.row(c), (first + v) * S::LANES), totals[v][c]);
        }
    }
}

/// Which weights a tile takes.
struct Place<const V: usize> {
    /// The first record of each register.
    records: [*const u8; V],
    /// The first lane of each register in its records.
    lanes: [usize; V],
    /// Records to go through, one an input.
    inputs: usize,
    /// Bytes to where the next tile reads.
    next_set: usize,
}

/// The tile itself.
///
/// # Safety
/// There are the records that `place` says, and inputs for all of them.
#[inline(always)]
unsafe fn tile<S: Simd, F: Format, const V: usize, const C: usize>(
    simd: S,
    place: Place<V>,
    inputs: Panel<C>,
    mut totals: [[S::Floats; C]; V],
) -> [[S::Floats; C]; V] {
    let Place { records, lanes, inputs: inputs_len, next_set } = place;
    for input in 0..inputs_len {
        // The prefetchers of the CPU follow no stream for as short as a group is.
        if input * F::RECORD % LINE_BYTES == 0 {
            for v in 0..V {
                for line in 0..F::RECORD.div_ceil(LINE_BYTES) {
                    let ahead = next_set + input * F::RECORD + line * LINE_BYTES;
                    simd.prefetch(records[v].wrapping_add(ahead));
                }
            }
        }
        for v in 0..V {
            // SAFETY: the caller has that many records and inputs.
            unsafe {
                let weight = F::load(simd, records[v].add(input * F::RECORD), lanes[v]);
                for c in 0..C {
                    let x = simd.splat(inputs.at(input, c));
                    totals[v][c] = simd.mul_add(weight, x, totals[v][c]);
                }
            }
        }
    }
    totals
}

/// The outputs of a row from `first` on: none if the last group is padding from there.
#[inline(always)]
fn outputs_from(row: &mut [f32], first: usize) -> &mut [f32] {
    let first = first.min(row.len());
    &mut row[first..]
}

/// A register of the first values, zeros where there are too few.
#[inline(always)]
pub(super) fn load_some<S: Simd>(simd: S, values: &[f32]) -> S::Floats {
    if values.len() >= S::LANES {
        // SAFETY: there are enough.
        return unsafe { simd.load(values.as_ptr()) };
    }
    let mut padded = [0.0; GROUP];
    padded[..values.len()].copy_from_slice(values);
    // SAFETY: a group has at least as many lanes as a register.
    unsafe { simd.load(padded.as_ptr()) }
}

/// Writes a register to the first values, as far as there are any.
#[inline(always)]
pub(super) fn store_some<S: Simd>(simd: S, values: &mut [f32], register: S::Floats) {
    if values.len() >= S::LANES {
        // SAFETY: there are enough.
        return unsafe { simd.store(values.as_mut_ptr(), register) };
    }
    let mut padded = [0.0; GROUP];
    // SAFETY: a group has at least as many lanes as a register.
    unsafe { simd.store(padded.as_mut_ptr(), register) };
    let len = values.len();
    values.copy_from_slice(&padded[..len]);
}
