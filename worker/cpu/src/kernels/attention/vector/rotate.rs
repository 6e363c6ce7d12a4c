//! The rotary embedding of one head.

use shardrun_model::RopePairs;

use crate::kernels::attention::Turns;

use super::simd::Simd;

/// See `AttentionKernels::rotate`. No product is fused with a sum, so the bits are those of the scalar
/// reference.
///
/// # Safety
/// Cosines, sines and the place are as many as `head`, an even number.
#[inline(always)]
pub(super) unsafe fn rotate<S: Simd>(simd: S, turns: Turns<'_>, head: &[f32], place: &mut [f32]) {
    let (cosines, sines) = (turns.cosines, turns.sines);
    let half = head.len() / 2;
    match turns.pairs {
        RopePairs::Neighbours => {
            for at in (0..head.len() / S::LANES * S::LANES).step_by(S::LANES) {
                // SAFETY: the register is within `head` and its place.
                unsafe {
                    let elements = simd.load(head.as_ptr().add(at));
                    let turned = turn(simd, turns, at, elements, simd.swap_neighbours(elements));
                    simd.store(place.as_mut_ptr().add(at), turned);
                }
            }
            for at in head.len() / S::LANES * S::LANES..head.len() {
                place[at] = head[at] * cosines[at] + head[at ^ 1] * sines[at];
            }
        }
        RopePairs::Halves => {
            for at in (0..half / S::LANES * S::LANES).step_by(S::LANES) {
                // SAFETY: the register is within the first half, its partner in the second.
                unsafe {
                    let first = simd.load(head.as_ptr().add(at));
                    let second = simd.load(head.as_ptr().add(half + at));
                    let place = place.as_mut_ptr();
                    simd.store(place.add(at), turn(simd, turns, at, first, second));
                    simd.store(place.add(half + at), turn(simd, turns, half + at, second, first));
                }
            }
            for at in half / S::LANES * S::LANES..half {
                let (first, second) = (head[at], head[half + at]);
                place[at] = first * cosines[at] + second * sines[at];
                place[half + at] = second * cosines[half + at] + first * sines[half + at];
            }
        }
    }
}

/// A register of elements from number `at` on, turned.
///
/// # Safety
/// There are cosines and sines for it.
#[inline(always)]
unsafe fn turn<S: Simd>(
    simd: S,
    turns: Turns<'_>,
    at: usize,
    elements: S::Floats,
    partners: S::Floats,
) -> S::Floats {
    // SAFETY: the caller vouches for them.
    unsafe {
        let cosines = simd.load(turns.cosines.as_ptr().add(at));
        let sines = simd.load(turns.sines.as_ptr().add(at));
        simd.add(simd.mul(elements, cosines), simd.mul(partners, sines))
    }
}
