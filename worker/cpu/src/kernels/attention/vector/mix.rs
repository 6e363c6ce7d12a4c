//! Weighted sums of values: a register of dimensions for each of a few queries, all sums in registers.

use std::ops::Range;

use crate::{disjoint::Rectangle, kernels::attention::Strip, matrix::GROUP};

use super::{product::Product, simd::Simd};

/// Adds the values of `tokens` of the strip, weighted, to sums, one after the other; if `fresh`, to zeros
/// instead. Others are as if they weren't there, also in a pair that is multiplied at once. `M` queries, `V`
/// registers of dimensions at a time: a sum is one chain of multiply-adds along the tokens, whatever they are.
///
/// # Safety
/// `P` is the type of the strip; `tokens` are in it, `M` queries have weights of all lanes,
/// and sums have `M` rows of the head's width.
#[inline(always)]
pub(super) unsafe fn mix<S: Simd, P: Product<S>, const M: usize, const V: usize>(
    simd: S,
    strip: &Strip<'_>,
    tokens: Range<usize>,
    (weights, stride): (&[f32], usize),
    (sums, fresh): (&mut Rectangle<'_>, bool),
) {
    let mut starts = [weights.as_ptr(); M];
    for m in 0..M {
        starts[m] = weights[m * stride..].as_ptr();
    }
    let registers = sums.columns() / S::LANES;
    let mut first = 0;
    // SAFETY: the registers are those of the head; the rest is the caller's.
    unsafe {
        while first + V <= registers {
            registers_at::<S, P, M, V>(simd, strip, tokens.clone(), starts, (sums, fresh), first);
            first += V;
        }
        while first + 2 <= registers {
            registers_at::<S, P, M, 2>(simd, strip, tokens.clone(), starts, (sums, fresh), first);
            first += 2;
        }
        if first < registers {
            registers_at::<S, P, M, 1>(simd, strip, tokens, starts, (sums, fresh), first);
        }
    }
}

/// The same for the `V` registers from number `first` on.
#[inline(always)]
unsafe fn registers_at<S: Simd, P: Product<S>, const M: usize, const V: usize>(
    simd: S,
    strip: &Strip<'_>,
    tokens: Range<usize>,
    weights: [*const f32; M],
    (places, fresh): (&mut Rectangle<'_>, bool),
    first: usize,
) {
    let row_bytes = places.columns() * P::LANE_BYTES;
    let mut sums = [[simd.splat(0.0); M]; V];
    if !fresh {
        for v in 0..V {
            for m in 0..M {
                let place = places.row(m)[(first + v) * S::LANES..].as_ptr();
                // SAFETY: a row has the registers of a head.
                sums[v][m] = unsafe { simd.load(place) };
            }
        }
    }
    let group_tokens = strip.group_tokens();
    for group in tokens.start / group_tokens..tokens.end.div_ceil(group_tokens) {
        let start = tokens.start.max(group * group_tokens) - group * group_tokens;
        let end = tokens.end.min((group + 1) * group_tokens) - group * group_tokens;
        let values = strip.groups()[group].values[first * S::LANES * P::LANE_BYTES..].as_ptr();
        let ahead = strip.ahead(group).values.as_ptr();
        let ahead = ahead.wrapping_add(first * S::LANES * P::LANE_BYTES);
        let mut group_weights = weights;
        for m in 0..M {
            group_weights[m] = weights[m].wrapping_add(group * GROUP / P::STEP * P::FACTORS);
        }
        // SAFETY: a group has a row of values for every step, and weights for them.
        unsafe {
            if !start.is_multiple_of(P::STEP) {
                let step = start / P::STEP;
                let stored = row::<S, P, V>(simd, values.add(step * row_bytes));
                add::<S, P, M, V>(
                    simd,
                    only::<S, P, V>(simd, stored, true),
                    group_weights,
                    step,
                    &mut sums,
                );
            }
            for step in start.div_ceil(P::STEP)..end / P::STEP {
                for v in 0..V {
                    let register = step * row_bytes + v * S::LANES * P::LANE_BYTES;
                    simd.prefetch(ahead.wrapping_add(register));
                }
                let stored = row::<S, P, V>(simd, values.add(step * row_bytes));
                add::<S, P, M, V>(simd, stored, group_weights, step, &mut sums);
            }
            if !end.is_multiple_of(P::STEP) {
                let step = end / P::STEP;
                let stored = row::<S, P, V>(simd, values.add(step * row_bytes));
                add::<S, P, M, V>(
                    simd,
                    only::<S, P, V>(simd, stored, false),
                    group_weights,
                    step,
                    &mut sums,
                );
            }
        }
    }
    for v in 0..V {
        for m in 0..M {
            let place = places.row(m)[(first + v) * S::LANES..].as_mut_ptr();
            // SAFETY: as above.
            unsafe { simd.store(place, sums[v][m]) };
        }
    }
}

/// `V` registers of values of one step.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn row<S: Simd, P: Product<S>, const V: usize>(simd: S, from: *const u8) -> [P::Stored; V] {
    // SAFETY: the caller vouches for them.
    unsafe {
        let mut stored = [P::load(simd, from); V];
        for v in 1..V {
            stored[v] = P::load(simd, from.add(v * S::LANES * P::LANE_BYTES));
        }
        stored
    }
}

/// Adds them, times each query's weights of step `step`.
///
/// # Safety
/// There are such weights.
#[inline(always)]
unsafe fn add<S: Simd, P: Product<S>, const M: usize, const V: usize>(
    simd: S,
    stored: [P::Stored; V],
    weights: [*const f32; M],
    step: usize,
    sums: &mut [[S::Floats; M]; V],
) {
    for m in 0..M {
        // SAFETY: the caller vouches for the weights.
        let factor = unsafe { P::splat(simd, weights[m].add(step * P::FACTORS)) };
        for v in 0..V {
            sums[v][m] = P::add(simd, stored[v], factor, sums[v][m]);
        }
    }
}

/// Of pairs only one.
#[inline(always)]
fn only<S: Simd, P: Product<S>, const V: usize>(
    simd: S,
    mut stored: [P::Stored; V],
    second: bool,
) -> [P::Stored; V] {
    for v in 0..V {
        stored[v] = P::only(simd, stored[v], second);
    }
    stored
}
