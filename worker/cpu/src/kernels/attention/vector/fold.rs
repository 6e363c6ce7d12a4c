//! Two parts of attention put together.

use std::ops::Range;

use crate::{kernels::attention::Mixed, matrix::GROUP};

use super::{exp2::exp2, simd::Simd};

/// See `AttentionKernels::fold`; a head is `width` wide.
///
/// # Safety
/// Both have sums of all `queries`.
#[inline(always)]
pub(super) unsafe fn fold<S: Simd>(
    simd: S,
    whole: &mut Mixed<'_>,
    part: &Mixed<'_>,
    queries: Range<usize>,
    width: usize,
) {
    let (mut kept, mut added) = ([0.0; GROUP], [0.0; GROUP]);
    for lane in (0..GROUP).step_by(S::LANES) {
        // SAFETY: each of the arrays has a group of lanes.
        unsafe {
            let of_whole = simd.load(whole.greatest.as_ptr().add(lane));
            let of_part = simd.load(part.greatest.as_ptr().add(lane));
            let greatest = simd.max(of_whole, of_part);
            let keep = exp2(simd, simd.sub(of_whole, greatest), true);
            let add = exp2(simd, simd.sub(of_part, greatest), true);
            let total = simd.mul(simd.load(part.totals.as_ptr().add(lane)), add);
            let total = simd.mul_add(simd.load(whole.totals.as_ptr().add(lane)), keep, total);
            simd.store(whole.greatest.as_mut_ptr().add(lane), greatest);
            simd.store(whole.totals.as_mut_ptr().add(lane), total);
            simd.store(kept.as_mut_ptr().add(lane), keep);
            simd.store(added.as_mut_ptr().add(lane), add);
        }
    }
    for query in queries {
        let (kept, added) = (simd.splat(kept[query]), simd.splat(added[query]));
        let sums = whole.sums[query * width..][..width].as_mut_ptr();
        let parts = part.sums[query * width..][..width].as_ptr();
        for at in (0..width).step_by(S::LANES) {
            // SAFETY: there are `width` sums of each.
            unsafe {
                let part = simd.mul(simd.load(parts.add(at)), added);
                simd.store(sums.add(at), simd.mul_add(simd.load(sums.add(at)), kept, part));
            }
        }
    }
}
