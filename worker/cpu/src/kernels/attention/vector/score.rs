//! Scores: a register of tokens for each of a few queries, all sums in registers.

use crate::{
    disjoint::Rectangle,
    kernels::attention::{Strip, width},
    matrix::GROUP,
};

use super::{product::Product, simd::Simd};

/// See `AttentionKernels::score`; `M` queries, `V` registers of tokens at a time. A score is one chain
/// of multiply-adds along the elements, whatever `M` and `V` are.
///
/// # Safety
/// `P` is the type of the strip; `M` queries are there, scores of `M` rows and all lanes.
#[inline(always)]
pub(super) unsafe fn score<S: Simd, P: Product<S>, const M: usize, const V: usize>(
    simd: S,
    strip: &Strip<'_>,
    queries: &[f32],
    scores: &mut Rectangle<'_>,
) {
    let mut starts = [queries.as_ptr(); M];
    for m in 0..M {
        starts[m] = queries[m * width(strip.dim())..].as_ptr();
    }
    let registers = strip.lanes() / S::LANES;
    let mut first = 0;
    // SAFETY: the registers are those of the strip; the rest is the caller's.
    unsafe {
        while first + V <= registers {
            registers_at::<S, P, M, V>(simd, strip, starts, scores, first);
            first += V;
        }
        while first + 2 <= registers {
            registers_at::<S, P, M, 2>(simd, strip, starts, scores, first);
            first += 2;
        }
        if first < registers {
            registers_at::<S, P, M, 1>(simd, strip, starts, scores, first);
        }
    }
}

/// The same for the `V` registers from number `first` on.
#[inline(always)]
unsafe fn registers_at<S: Simd, P: Product<S>, const M: usize, const V: usize>(
    simd: S,
    strip: &Strip<'_>,
    queries: [*const f32; M],
    scores: &mut Rectangle<'_>,
    first: usize,
) {
    let (mut keys, mut ahead) = ([std::ptr::null(); V], [std::ptr::null(); V]);
    for v in 0..V {
        let lane = (first + v) * S::LANES;
        let group = strip.groups()[lane / GROUP].keys;
        keys[v] = group[lane % GROUP * P::LANE_BYTES..].as_ptr();
        ahead[v] = strip.ahead(lane / GROUP).keys.as_ptr();
    }
    let mut sums = [[simd.splat(0.0); M]; V];
    for step in 0..strip.dim().div_ceil(P::STEP) {
        // SAFETY: a group has that many steps, a query that many factors.
        unsafe {
            let mut stored = [P::load(simd, keys[0].add(step * GROUP * P::LANE_BYTES)); V];
            for v in 1..V {
                stored[v] = P::load(simd, keys[v].add(step * GROUP * P::LANE_BYTES));
            }
            for v in 0..V {
                simd.prefetch(ahead[v].wrapping_add(step * GROUP * P::LANE_BYTES));
            }
            for m in 0..M {
                let factor = P::splat(simd, queries[m].add(step * P::FACTORS));
                for v in 0..V {
                    sums[v][m] = P::add(simd, stored[v], factor, sums[v][m]);
                }
            }
        }
    }
    for v in 0..V {
        let lane = (first + v) * S::LANES;
        let scales = strip.groups()[lane / GROUP].key_scales;
        for m in 0..M {
            let mut sum = sums[v][m];
            if !scales.is_empty() {
                // SAFETY: where there are scales, there is one a lane of the group.
                sum = simd.mul(sum, unsafe { simd.load(scales[lane % GROUP..].as_ptr()) });
            }
            // SAFETY: a row has all lanes of the strip.
            unsafe { simd.store(scores.row(m)[lane..].as_mut_ptr(), sum) };
        }
    }
}
