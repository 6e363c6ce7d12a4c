//! The kernels that work element by element, and the exponential that they share.

use super::{
    simd::Simd,
    tile::{load_some, store_some},
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

/// See `Kernels::softmax`. Lane l adds up the scores l, l + LANES, and so on.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, scores: &mut [f32], scale: f32) -> f32 {
    let whole = scores.len() / S::LANES * S::LANES;
    let (registers, rest) = scores.split_at_mut(whole);

    let mut greatest = simd.splat(f32::NEG_INFINITY);
    for scores in registers.chunks_exact(S::LANES) {
        greatest = simd.max(greatest, load_some(simd, scores));
    }
    let greatest = rest.iter().copied().fold(simd.greatest(greatest), f32::max);

    let (greatest, scale) = (simd.splat(greatest), simd.splat(scale));
    let mut sum = simd.splat(0.0);
    for scores in registers.chunks_exact_mut(S::LANES) {
        let weights = weigh(simd, load_some(simd, scores), greatest, scale);
        store_some(simd, scores, weights);
        sum = simd.add(sum, weights);
    }
    if rest.is_empty() {
        return simd.sum(sum);
    }
    // Only what is stored counts: the lanes beyond the rest hold something else.
    let weights = weigh(simd, load_some(simd, rest), greatest, scale);
    store_some(simd, rest, weights);
    simd.sum(simd.add(sum, load_some(simd, rest)))
}

#[inline(always)]
fn weigh<S: Simd>(simd: S, score: S::Floats, greatest: S::Floats, scale: S::Floats) -> S::Floats {
    exp(simd, simd.mul(simd.sub(score, greatest), scale))
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
