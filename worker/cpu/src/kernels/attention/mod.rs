//! The kernels of attention: scores of a few queries for the keys of a strip of tokens, their softmax,
//! the values that it weighs, and how strips are put together.
//!
//! `scalar` says in plain Rust what each computes. The fast ones, in `vector`, are written once over the
//! traits `Simd` and `Product`, and compiled once for each instruction set by `entry`; with AMX, `tiles`
//! multiplies in their place where it can.

mod scalar;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vector;

use std::ops::Range;

use shardrun_model::{CacheType, RopePairs};

use crate::{
    cache::{TokenGroup, step},
    disjoint::Rectangle,
    matrix::GROUP,
};

use super::Kernels;

#[cfg(target_arch = "x86_64")]
use super::amx::Amx;

#[cfg(target_arch = "x86_64")]
pub(super) use vector::Avx512Bf16;

/// Kernels of attention that this CPU was found to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionKernels(Variant);

#[derive(Clone, Copy, Debug)]
enum Variant {
    Scalar(scalar::Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(vector::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(vector::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(vector::Avx512Bf16),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
}

/// Calls the same function of whichever kernels these are.
macro_rules! each {
    ($kernels:expr, $variant:ident => $call:expr) => {
        match $kernels.0 {
            Variant::Scalar($variant) => $call,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx2($variant) => $call,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512($variant) => $call,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512Bf16($variant) => $call,
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(amx) => {
                let $variant = amx.without_amx();
                $call
            }
        }
    };
}

/// Keys and values of tokens that follow each other, of one head. All groups are whole, which kernels
/// rely on.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    heads: StripHeads,
    groups: &'a [TokenGroup<'a>],
    /// What is asked for on the way, group by group.
    ahead: &'a [TokenGroup<'a>],
}

/// What the groups of a strip have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripHeads {
    pub(crate) dtype: CacheType,
    /// Elements of a head.
    pub(crate) dim: usize,
    /// Tokens of a group; its lanes beyond them mean nothing.
    pub(crate) group_tokens: usize,
}

/// What a few queries have got from some positions: the softmax of their scores, not yet divided by
/// its total, and the sums of the values that it weighs.
///
/// A score is one to the base of two: e to a power is 2 to log2(e) times it.
pub(crate) struct Mixed<'a> {
    /// Each query's greatest score, to which its weights relate.
    pub(crate) greatest: &'a mut [f32; GROUP],
    /// Each query's sum of weights.
    pub(crate) totals: &'a mut [f32; GROUP],
    /// `[queries][width]`, where width is [`width`] of the head.
    pub(crate) sums: &'a mut [f32],
}

/// How far the elements of a head are turned: element i becomes
/// `element i * cosines[i] + its partner * sines[i]`, so the sine of a pair's first is negative.
#[derive(Clone, Copy)]
pub(crate) struct Turns<'a> {
    pub(crate) cosines: &'a [f32],
    pub(crate) sines: &'a [f32],
    pub(crate) pairs: RopePairs,
}

/// Elements of a head of `dim` with what fills the last register up.
pub(crate) fn width(dim: usize) -> usize {
    dim.next_multiple_of(GROUP)
}

impl AttentionKernels {
    /// Those for the same instruction set as `kernels`.
    pub(crate) fn new(kernels: Kernels) -> Self {
        match kernels.0 {
            super::Variant::Scalar(_) => Self(Variant::Scalar(scalar::Scalar)),
            #[cfg(target_arch = "x86_64")]
            super::Variant::Avx2(avx2) => Self(Variant::Avx2(avx2)),
            #[cfg(target_arch = "x86_64")]
            super::Variant::Avx512(avx512) => Self(Variant::Avx512(avx512)),
            #[cfg(target_arch = "x86_64")]
            super::Variant::Avx512Bf16(kernels) => Self(Variant::Avx512Bf16(kernels)),
            #[cfg(target_arch = "x86_64")]
            super::Variant::Amx(amx) => Self(Variant::Amx(amx)),
        }
    }

    /// All that run on this CPU.
    #[cfg(test)]
    pub(crate) fn that_run() -> impl Iterator<Item = Self> {
        crate::testing::kernels_that_run().map(Self::new)
    }

    /// Whether queries and weights are rounded to bfloat16 to be multiplied with what is stored so.
    #[cfg(test)]
    pub(crate) fn rounds(self, dtype: CacheType) -> bool {
        #[cfg(target_arch = "x86_64")]
        return dtype == CacheType::Bf16
            && matches!(self.0, Variant::Avx512Bf16(_) | Variant::Amx(_));
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Most queries of such heads that the kernels take at a time; at most [`GROUP`].
    pub(crate) fn most_queries(self, heads: StripHeads) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(_) if tiles::fit(heads) => GROUP,
            _ => each!(self, kernels => kernels.most_queries()),
        }
    }

    /// Asks for memory that will be read soon.
    pub(crate) fn prefetch(self, soon: &[u8]) {
        each!(self, kernels => kernels.prefetch(soon));
    }

    /// Turns the first elements of `head`, as many as there are cosines, and copies the others.
    pub(crate) fn rotate(self, turns: Turns<'_>, head: &[f32], place: &mut [f32]) {
        let dims = turns.cosines.len();
        assert!(dims.is_multiple_of(2) && dims == turns.sines.len(), "whole pairs");
        let (turned, rest) = head.split_at(dims);
        let (place, others) = place.split_at_mut(dims);
        each!(self, kernels => kernels.rotate(turns, turned, place));
        others.copy_from_slice(rest);
    }

    /// Writes `scale * query` as [`Self::score`] reads it. Both are as long as a head is wide.
    pub(crate) fn pack(self, dtype: CacheType, query: &[f32], scale: f32, place: &mut [f32]) {
        assert!(query.len().is_multiple_of(GROUP) && query.len() == place.len(), "whole groups");
        each!(self, kernels => kernels.pack(dtype, query, scale, place));
    }

    /// Scores of packed queries, which lie side by side, for the keys: `[queries][groups * 16]`. One
    /// that is of no token may be any number.
    pub(crate) fn score(self, strip: &Strip<'_>, queries: &[f32], scores: &mut Rectangle<'_>) {
        let most = self.most_queries(strip.heads);
        assert!((1..=most).contains(&scores.rows()), "queries within the limit");
        assert!(queries.len() >= scores.rows() * width(strip.dim()), "all queries");
        assert_eq!(scores.columns(), strip.lanes(), "scores of all lanes");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: sizes were checked.
            Variant::Amx(amx) if tiles::fit(strip.heads) => unsafe {
                tiles::score(amx, strip, queries, scores);
            },
            _ => each!(self, kernels => kernels.score(strip, queries, scores)),
        }
    }

    /// Turns scores into weights, which are 2 to the power of the score less the query's greatest one,
    /// as [`Self::mix`] reads them. Greatest scores and totals go to `mixed`, the first row's to
    /// those of query `first`.
    ///
    /// A score of minus infinity has the weight 0, exactly; each row has another one.
    pub(crate) fn weigh(
        self,
        strip: &Strip<'_>,
        scores: &mut Rectangle<'_>,
        first: usize,
        mixed: &mut Mixed<'_>,
    ) {
        assert_eq!(scores.columns(), strip.lanes(), "scores of all lanes");
        assert!(first + scores.rows() <= GROUP, "queries within the limit");
        each!(self, kernels => kernels.weigh(strip, scores, first, mixed));
    }

    /// Sums of the values of those tokens of the strip that each query sees, weighted: `[queries][width]`.
    /// Other tokens are as if they weren't there; they have the weight 0. Weights begin `stride` apart. No
    /// query sees tokens before those of the one before it, or ends before it.
    pub(crate) fn mix(
        self,
        strip: &Strip<'_>,
        seen: &[Range<usize>],
        (weights, stride): (&[f32], usize),
        sums: &mut Rectangle<'_>,
    ) {
        let most = self.most_queries(strip.heads);
        assert!((1..=most).contains(&seen.len()), "queries within the limit");
        assert_eq!(sums.rows(), seen.len(), "sums of all queries");
        assert_eq!(sums.columns(), width(strip.dim()), "sums of a whole head");
        let tokens = strip.groups.len() * strip.group_tokens();
        assert!(seen.iter().all(|seen| seen.end <= tokens), "tokens of the strip");
        assert!(weights.len() >= (seen.len() - 1) * stride + strip.lanes(), "weights of all");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: sizes were checked.
            Variant::Amx(amx) if tiles::fit(strip.heads) => unsafe {
                tiles::mix(amx, strip, seen, (weights, stride), sums);
            },
            _ => self.mix_pairs(strip, seen, (weights, stride), sums),
        }
    }

    /// The same, at once for the tokens that all queries see, in whole pairs, since a pair of which one
    /// sees only half is another one for it. What is before and after, each row's queries get alone.
    fn mix_pairs(
        self,
        strip: &Strip<'_>,
        seen: &[Range<usize>],
        (weights, stride): (&[f32], usize),
        sums: &mut Rectangle<'_>,
    ) {
        let mut mix = |queries: Range<usize>, tokens: Range<usize>, fresh: bool| {
            let tokens = if tokens.is_empty() { 0..0 } else { tokens };
            let weights = (&weights[queries.start * stride..], stride);
            let mut sums = sums.part(queries, 0..width(strip.dim()));
            each!(self, kernels => kernels.mix(strip, tokens, weights, (&mut sums, fresh)));
        };
        let (earliest, latest) = (&seen[0], &seen[seen.len() - 1]);
        let shared = if earliest == latest {
            earliest.clone()
        } else {
            let end = earliest.end / 2 * 2;
            latest.start.next_multiple_of(2).min(end)..end
        };
        let some_begin_before = earliest.start < shared.start;
        if some_begin_before {
            for (queries, seen) in rows(seen) {
                mix(queries, seen.start..seen.end.min(shared.start), true);
            }
        }
        mix(0..seen.len(), shared.clone(), !some_begin_before);
        for (queries, seen) in rows(seen) {
            if seen.end > shared.end {
                mix(queries, seen.start.max(shared.end)..seen.end, false);
            }
        }
    }

    /// Adds to `whole` what `queries` have got from a later part; others have got nothing there: their
    /// greatest score is minus infinity, their total 0.
    pub(crate) fn fold(
        self,
        whole: &mut Mixed<'_>,
        part: &Mixed<'_>,
        queries: Range<usize>,
        dim: usize,
    ) {
        let end = queries.end * width(dim);
        assert!(queries.end <= GROUP, "queries within the limit");
        assert!(end <= whole.sums.len() && end <= part.sums.len(), "sums of all queries");
        each!(self, kernels => kernels.fold(whole, part, queries, width(dim)));
    }
}

/// Queries that see the same tokens, as those of one row do, and the tokens.
fn rows(seen: &[Range<usize>]) -> impl Iterator<Item = (Range<usize>, &Range<usize>)> {
    let mut end = 0;
    seen.chunk_by(|one, next| one == next).map(move |same| {
        let start = end;
        end += same.len();
        (start..end, &same[0])
    })
}

impl<'a> Strip<'a> {
    /// The strip of these groups.
    ///
    /// # Panics
    /// If a group lacks some of its keys, values or scales.
    pub(crate) fn new(heads: StripHeads, groups: &'a [TokenGroup<'a>]) -> Self {
        let StripHeads { dtype, dim, group_tokens } = heads;
        let lane = step(dtype) * dtype.element_bytes();
        let keys = dim.div_ceil(step(dtype)) * GROUP * lane;
        let values = group_tokens.div_ceil(step(dtype)) * width(dim) * lane;
        let scales = if dtype.scale_bytes() == 0 { 0 } else { GROUP };
        for group in groups {
            assert!(group.keys.len() >= keys && group.values.len() >= values, "a whole group");
            let least = group.key_scales.len().min(group.value_scales.len());
            assert!(least >= scales, "scales of all tokens");
        }
        Self { heads, groups, ahead: &[] }
    }

    /// The same, to ask for these groups, up to as many as its own, while keys and values are read.
    pub(crate) fn fetching(self, ahead: &'a [TokenGroup<'a>]) -> Self {
        Self { ahead: &ahead[..ahead.len().min(self.groups.len())], ..self }
    }

    /// Those of its groups.
    pub(crate) fn part(self, groups: Range<usize>) -> Self {
        let ahead = groups.start.min(self.ahead.len())..groups.end.min(self.ahead.len());
        Self { groups: &self.groups[groups], ahead: &self.ahead[ahead], ..self }
    }

    pub(crate) fn dim(&self) -> usize {
        self.heads.dim
    }

    pub(crate) fn group_tokens(&self) -> usize {
        self.heads.group_tokens
    }

    /// Scores of one query.
    pub(crate) fn lanes(&self) -> usize {
        self.groups.len() * GROUP
    }

    fn dtype(&self) -> CacheType {
        self.heads.dtype
    }

    fn groups(&self) -> &'a [TokenGroup<'a>] {
        self.groups
    }

    /// What to ask for while group `group` is read: itself if there is nothing else.
    fn ahead(&self, group: usize) -> &'a TokenGroup<'a> {
        self.ahead.get(group).unwrap_or(&self.groups[group])
    }
}

impl<'a> Mixed<'a> {
    /// Floats that it takes.
    pub(crate) fn floats(queries: usize, dim: usize) -> usize {
        2 * GROUP + queries * width(dim)
    }

    /// One in `memory`, whatever that holds.
    pub(crate) fn new(memory: &'a mut [f32]) -> Self {
        let (greatest, rest) = memory.split_first_chunk_mut().expect("room for a mixture");
        let (totals, sums) = rest.split_first_chunk_mut().expect("room for a mixture");
        Self { greatest, totals, sums }
    }

    /// Makes it what queries have got from nowhere. The greatest score is the least number, since the
    /// difference of two infinities is none.
    pub(crate) fn clear(&mut self) {
        self.greatest.fill(f32::MIN);
        self.totals.fill(0.0);
        self.sums.fill(0.0);
    }
}
