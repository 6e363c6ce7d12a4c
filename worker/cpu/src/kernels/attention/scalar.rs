//! The kernels in plain Rust: what the fast ones are tested against, and what runs where none of
//! them does.

use std::ops::Range;

use half::{bf16, f16};
use shardrun_model::{CacheType, RopePairs};

use crate::{cache::step, disjoint::Rectangle, matrix::GROUP};

use super::{Mixed, Strip, Turns, width};

/// Kernels that need nothing of the CPU. Queries and weights are float32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

impl Scalar {
    pub(super) fn most_queries(self) -> usize {
        4
    }

    /// Nothing in plain Rust asks for memory.
    pub(super) fn prefetch(self, _: &[u8]) {}

    pub(super) fn rotate(self, turns: Turns<'_>, head: &[f32], place: &mut [f32]) {
        for at in 0..head.len() {
            let half = head.len() / 2;
            let partner = match turns.pairs {
                RopePairs::Neighbours => at ^ 1,
                RopePairs::Halves => (at + half) % head.len(),
            };
            place[at] = head[at] * turns.cosines[at] + head[partner] * turns.sines[at];
        }
    }

    pub(super) fn pack(self, _: CacheType, query: &[f32], scale: f32, place: &mut [f32]) {
        for (place, element) in place.iter_mut().zip(query) {
            *place = element * scale;
        }
    }

    pub(super) fn score(self, strip: &Strip<'_>, queries: &[f32], scores: &mut Rectangle<'_>) {
        let step = step(strip.dtype());
        for (query, elements) in
            queries.chunks_exact(width(strip.dim())).take(scores.rows()).enumerate()
        {
            let places = scores.row(query).chunks_exact_mut(GROUP);
            for (group, places) in strip.groups().iter().zip(places) {
                for (lane, place) in places.iter_mut().enumerate() {
                    let key = |at: usize| {
                        let first = at / step * GROUP + lane;
                        number(strip.dtype(), group.keys, first * step + at % step)
                    };
                    let mut sum = 0.0;
                    for at in 0..strip.dim() {
                        sum += elements[at] * key(at);
                    }
                    *place = sum * group.key_scales.get(lane).copied().unwrap_or(1.0);
                }
            }
        }
    }

    pub(super) fn weigh(
        self,
        strip: &Strip<'_>,
        scores: &mut Rectangle<'_>,
        first: usize,
        mixed: &mut Mixed<'_>,
    ) {
        for query in 0..scores.rows() {
            let row = scores.row(query);
            let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            for (group, row) in strip.groups().iter().zip(row.chunks_exact_mut(GROUP)) {
                for (lane, score) in row.iter_mut().enumerate() {
                    let weight = (*score - greatest).exp2();
                    total += weight;
                    *score = weight * group.value_scales.get(lane).copied().unwrap_or(1.0);
                }
            }
            mixed.greatest[first + query] = greatest;
            mixed.totals[first + query] = total;
        }
    }

    pub(super) fn mix(
        self,
        strip: &Strip<'_>,
        tokens: Range<usize>,
        (weights, stride): (&[f32], usize),
        (sums, fresh): (&mut Rectangle<'_>, bool),
    ) {
        let step = step(strip.dtype());
        let width = width(strip.dim());
        for query in 0..sums.rows() {
            if fresh {
                sums.row(query).fill(0.0);
            }
            for token in tokens.clone() {
                let (group, slot) = (token / strip.group_tokens(), token % strip.group_tokens());
                let weight = weights[query * stride + group * GROUP + slot];
                for (at, sum) in sums.row(query).iter_mut().enumerate() {
                    let first = slot / step * width + at;
                    let values = strip.groups()[group].values;
                    *sum += weight * number(strip.dtype(), values, first * step + slot % step);
                }
            }
        }
    }

    pub(super) fn fold(
        self,
        whole: &mut Mixed<'_>,
        part: &Mixed<'_>,
        queries: Range<usize>,
        width: usize,
    ) {
        for query in queries {
            let greatest = whole.greatest[query].max(part.greatest[query]);
            let kept = (whole.greatest[query] - greatest).exp2();
            let added = (part.greatest[query] - greatest).exp2();
            whole.greatest[query] = greatest;
            whole.totals[query] = whole.totals[query] * kept + part.totals[query] * added;
            let place = query * width..(query + 1) * width;
            for (sum, part) in whole.sums[place.clone()].iter_mut().zip(&part.sums[place]) {
                *sum = *sum * kept + part * added;
            }
        }
    }
}

/// Number `at` of what is stored, without its scale.
fn number(dtype: CacheType, stored: &[u8], at: usize) -> f32 {
    let half = || [stored[2 * at], stored[2 * at + 1]];
    match dtype {
        CacheType::F32 => f32::from_bits(bytemuck::pod_read_unaligned(&stored[4 * at..4 * at + 4])),
        CacheType::Bf16 => bf16::from_ne_bytes(half()).to_f32(),
        CacheType::F16 => f16::from_ne_bytes(half()).to_f32(),
        CacheType::Int8 => f32::from(stored[at].cast_signed()),
    }
}
