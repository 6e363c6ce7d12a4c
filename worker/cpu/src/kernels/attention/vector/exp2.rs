//! Powers of two.

use std::f32::consts::LN_2;

use super::simd::Simd;

/// 2^r = 1 + r (c0 + r (c1 + ...)) for r from -1/2 to 1/2, off by at most 2e-9 of itself (the least
/// greatest error of its degree, by Lawson's weighted least squares), before rounding.
const EXACT: [f32; 6] =
    [LN_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_5, 0.000_153_533_62];

/// The same, off by at most 1.1e-4: a thirtieth of what rounding to bfloat16 may be off.
const SHORT: [f32; 3] = [0.693_282_9, 0.242_210_97, 0.055_008_93];

/// 2^x for x up to 0: off by less than 2e-7 of itself if `exact`, else 1.1e-4; 0 where the result is
/// no normal number. 2^0 is 1. Not a number stays so.
#[inline(always)]
pub(super) fn exp2<S: Simd>(simd: S, x: S::Floats, exact: bool) -> S::Floats {
    let coefficients: &[f32] = if exact { &EXACT } else { &SHORT };
    /// What is 0 already.
    const LEAST: f32 = f32::MIN_EXP as f32 - 2.0;
    // The bound comes first, since max gives its second argument for not-a-number.
    let bounded = simd.max(simd.splat(LEAST), x);
    let n = simd.round(bounded);
    let r = simd.sub(bounded, n);
    let (last, others) = coefficients.split_last().expect("a few coefficients");
    let mut series = simd.splat(*last);
    for &coefficient in others.iter().rev() {
        series = simd.mul_add(series, r, simd.splat(coefficient));
    }
    simd.times_power_of_two(simd.mul_add(series, r, simd.splat(1.0)), n)
}
