//! The softmax over one strip, and factors as products read them.

use crate::{
    disjoint::Rectangle,
    kernels::attention::{Mixed, Strip},
    matrix::GROUP,
};

use super::{exp2::exp2, product::Product, simd::Simd};

/// See `AttentionKernels::pack`.
///
/// # Safety
/// The query is whole groups, and its place as long.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd, P: Product<S>>(
    simd: S,
    query: &[f32],
    scale: f32,
    place: &mut [f32],
) {
    let scale = simd.splat(scale);
    for at in (0..query.len()).step_by(S::LANES) {
        // SAFETY: the register is within the query, and packed it takes no more room.
        unsafe {
            let elements = simd.mul(simd.load(query.as_ptr().add(at)), scale);
            P::keep(simd, place.as_mut_ptr(), at, P::round(simd, elements));
        }
    }
}

/// See `AttentionKernels::weigh`. Lane l adds up the weights of lanes l, l + LANES, and so on, as they
/// are kept, but without the scales of values.
///
/// # Safety
/// `P` is the type of the strip; rows have all lanes of the strip.
#[inline(always)]
pub(super) unsafe fn weigh<S: Simd, P: Product<S>>(
    simd: S,
    strip: &Strip<'_>,
    scores: &mut Rectangle<'_>,
    first: usize,
    mixed: &mut Mixed<'_>,
) {
    // What goes across lanes is done for all rows at once, so that no row waits for it.
    for query in 0..scores.rows() {
        let mut greatest = simd.splat(f32::NEG_INFINITY);
        for scores in scores.row(query).chunks_exact(S::LANES) {
            // SAFETY: a chunk is a register.
            greatest = simd.max(greatest, unsafe { simd.load(scores.as_ptr()) });
        }
        mixed.greatest[first + query] = simd.greatest(greatest);
    }
    let scaled = strip.dtype().scale_bytes() > 0;
    let mut totals = [simd.splat(0.0); GROUP];
    for query in 0..scores.rows() {
        let greatest = simd.splat(mixed.greatest[first + query]);
        let row = scores.row(query).as_mut_ptr();
        let mut total = simd.splat(0.0);
        for lane in (0..strip.lanes()).step_by(S::LANES) {
            // SAFETY: the row has all lanes of the strip. Weights take no more room than scores, so
            // they are written where scores have been read.
            unsafe {
                let weight = exp2(simd, simd.sub(simd.load(row.add(lane)), greatest), P::EXACT);
                let mut rounded = P::round(simd, weight);
                total = P::total(simd, rounded, total);
                if scaled {
                    let scales = strip.groups()[lane / GROUP].value_scales;
                    let scale = simd.load(scales[lane % GROUP..].as_ptr());
                    rounded = P::round(simd, simd.mul(weight, scale));
                }
                P::keep(simd, row, lane, rounded);
            }
        }
        totals[query] = total;
    }
    for query in 0..scores.rows() {
        mixed.totals[first + query] = simd.sum(totals[query]);
    }
}
