//! The kernels that work element by element, and the exponential that they share.

use super::{
    simd::Simd,
    tile::{load_some, store_some},
};
use crate::{
    kernels::plane::Plane,
    matrix::{GROUP, SUB_BLOCK},
    operand::{QuantRows, QuantToken, Rows},
};

/// Below this, e^x is no normal number and is taken for 0: ln(2^-126).
const LEAST: f32 = -87.336_54;
/// Above this, e^x is near the end of float32; larger x give what this one gives.
const MOST: f32 = 88.376_26;

/// e^x with a relative error below 2e-7; 0 where the result would not be a normal number.
///
/// With n the whole number nearest to x / ln 2, e^x = 2^n e^r, and e^r is the polynomial of Cephes'
/// expf (Moshier, 1989). Not a number stays so.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::Floats) -> S::Floats {
    /// ln 2 in two parts, the first so short that its products with n are exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let least = simd.splat(LEAST);
    // The bounds come first, since min and max give their second argument for not-a-number.
    let bounded = simd.min(simd.splat(MOST), simd.max(least, x));
    let n = simd.round(simd.mul(bounded, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-LN2_HIGH), bounded);
    let r = simd.mul_add(n, simd.splat(-LN2_LOW), r);
    let mut series = simd.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        series = simd.mul_add(series, r, simd.splat(*coefficient));
    }
    let e_r = simd.add(simd.mul_add(series, simd.mul(r, r), r), simd.splat(1.0));
    simd.zero_below(x, least, simd.mul(e_r, simd.power_of_two(n)))
}

/// See `Kernels::silu_mul`.
#[inline(always)]
pub(super) fn silu_mul<S: Simd>(simd: S, gate: &mut [f32], up: &[f32]) {
    let one = simd.splat(1.0);
    for (gates, ups) in gate.chunks_mut(S::LANES).zip(up.chunks(S::LANES)) {
        let gate = load_some(simd, gates);
        let e = exp(simd, simd.sub(simd.splat(0.0), gate));
        let silu = simd.div(gate, simd.add(one, e));
        store_some(simd, gates, simd.mul(silu, load_some(simd, ups)));
    }
}

/// See `Kernels::add`.
#[inline(always)]
pub(super) fn add<S: Simd>(simd: S, sum: &mut [f32], x: &[f32]) {
    for (sums, xs) in sum.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let sum = simd.add(load_some(simd, sums), load_some(simd, xs));
        store_some(simd, sums, sum);
    }
}

/// See `Kernels::greatest`.
#[inline(always)]
pub(super) fn greatest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    /// Maxima that are kept side by side.
    const CHAINS: usize = 4;
    let none = simd.splat(f32::NEG_INFINITY);
    let mut highest = [none; CHAINS];
    let chunks = values.chunks_exact(CHAINS * S::LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (at, highest) in highest.iter_mut().enumerate() {
            // SAFETY: a chunk has a register for each chain.
            let values = unsafe { simd.load(chunk[at * S::LANES..].as_ptr()) };
            // What is not a number loses in this order.
            *highest = simd.max(values, *highest);
        }
    }
    let all = highest.into_iter().fold(none, |a, b| simd.max(a, b));
    let mut lanes = [f32::NEG_INFINITY; GROUP];
    // SAFETY: a group has at least as many lanes as a register.
    unsafe { simd.store(lanes.as_mut_ptr(), all) };
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// See `Kernels::rms_norm`. Lane l adds up the squares of elements l, l + LANES, and so on.
#[inline(always)]
pub(super) fn rms_norm<S: Simd>(
    simd: S,
    x: &[f32],
    gain: &[f32],
    epsilon: f32,
    normed: &mut [f32],
) {
    let mut squares = simd.splat(0.0);
    for xs in x.chunks(S::LANES) {
        let x = load_some(simd, xs);
        squares = simd.mul_add(x, x, squares);
    }
    let mean = simd.sum(squares) / x.len() as f32;
    let scale = simd.splat(1.0 / (mean + epsilon).sqrt());
    let chunks = x.chunks(S::LANES).zip(gain.chunks(S::LANES)).zip(normed.chunks_mut(S::LANES));
    for ((xs, gains), normed) in chunks {
        let scaled = simd.mul(load_some(simd, xs), scale);
        store_some(simd, normed, simd.mul(scaled, load_some(simd, gains)));
    }
}

/// See `Kernels::quantise`. Step by step for some sub-blocks at once: each step of one waits for the one before.
#[inline(always)]
pub(super) fn quantise<S: Simd>(simd: S, values: Rows<'_>, mut places: QuantRows<'_>) {
    const AT_ONCE: usize = 16;
    let rows = values.count();
    let mut tokens = (0..places.sub_blocks()).flat_map(|at| (0..rows).map(move |row| (row, at)));
    let mut some = [(0, 0); AT_ONCE];
    loop {
        let mut count = 0;
        for (place, token) in some.iter_mut().zip(tokens.by_ref()) {
            *place = token;
            count += 1;
        }
        let some = &some[..count];
        if some.is_empty() {
            return;
        }
        let of =
            |(row, at): (usize, usize)| values.row(row)[at * SUB_BLOCK..][..SUB_BLOCK].as_ptr();
        let mut greatest = [0.0; AT_ONCE];
        for (greatest, &token) in greatest.iter_mut().zip(some) {
            // SAFETY: a sub-block has thirty-two values.
            *greatest = unsafe { simd.greatest_magnitude(of(token)) };
        }
        let factors = greatest.map(QuantToken::factor);
        let mut sums = [[0; 2]; AT_ONCE];
        for ((sums, factor), &(row, at)) in sums.iter_mut().zip(factors).zip(some) {
            // SAFETY: as above, and there is room for as many quants.
            *sums = unsafe { simd.quantise(of((row, at)), factor, places.quants(row, at)) };
        }
        for ((sums, greatest), &(row, at)) in sums.into_iter().zip(greatest).zip(some) {
            places.finish(row, at, QuantToken::new(greatest, sums));
        }
    }
}

/// See `Kernels::expand`.
#[inline(always)]
pub(super) fn expand<S: Simd>(simd: S, plane: &Plane, weights: &mut [[f32; GROUP]; SUB_BLOCK]) {
    for lane in (0..GROUP).step_by(S::LANES) {
        for (j, vector) in plane.quants.iter().enumerate() {
            let half = j / 4;
            // SAFETY: a vector has four bytes a lane, and the others have a number a lane.
            unsafe {
                let mut quants = simd.load_words(vector.0[4 * lane..].as_ptr());
                let scale = simd.load(plane.scales[half][lane..].as_ptr());
                let minimum = simd.load(plane.minima[half][lane..].as_ptr());
                for weights in &mut weights[4 * j..4 * j + 4] {
                    let weight = simd.mul_add(simd.lowest_bytes(quants), scale, minimum);
                    quants = simd.drop_bytes(quants);
                    simd.store(weights[lane..].as_mut_ptr(), weight);
                }
            }
        }
    }
}
