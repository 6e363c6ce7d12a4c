//! What threads work in.

use std::ops::Range;

use crate::{
    kernels::{AttentionKernels, Mixed, StripHeads, width},
    matrix::GROUP,
};

use super::{MOST_GROUPS, work::Work};

/// Parts of queries that are cut have room for so many positions at a time, so that their memory
/// isn't made anew as sequences grow.
const POSITIONS_AT_ONCE: usize = 2048;

/// Sizes of scratch, in floats.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    dim: usize,
    /// Queries that the kernels take at a time.
    bundle: usize,
    /// Queries of a unit.
    queries: usize,
    /// Strips of a unit that may be cut.
    strips: usize,
    heads: usize,
}

/// What one thread works in.
pub(super) struct Scratch<'a> {
    /// One head, turned.
    pub(super) rotated: &'a mut [f32],
    /// Packed queries of a unit.
    pub(super) queries: &'a mut [f32],
    /// Scores, and then weights, of one bundle for one strip.
    pub(super) scores: &'a mut [f32],
    /// What one bundle gets from one strip.
    pub(super) part: &'a mut [f32],
    /// What all bundles have got so far.
    pub(super) wholes: &'a mut [f32],
}

impl Sizes {
    pub(super) fn new(kernels: AttentionKernels, heads: StripHeads, work: &Work<'_>) -> Self {
        Self {
            dim: heads.dim,
            bundle: kernels.most_queries(heads),
            queries: work.most_queries(),
            strips: work.most_strips(POSITIONS_AT_ONCE),
            heads: work.heads().queries_per_kv,
        }
    }

    /// How many queries are cut into bundles, as even as can be.
    pub(super) fn bundles(&self, queries: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = queries.div_ceil(self.bundle);
        (0..count).map(move |at| queries * at / count..queries * (at + 1) / count)
    }

    /// What one bundle gets.
    fn mixed(&self) -> usize {
        Mixed::floats(self.bundle, self.dim)
    }

    /// What one thread works in.
    pub(super) fn scratch(&self) -> usize {
        let width = width(self.dim);
        let bundles = self.queries.div_ceil(self.bundle);
        width + self.queries * width + self.scores() + (1 + bundles) * self.mixed()
    }

    /// Where the scratch of one thread is among that of all.
    pub(super) fn scratch_of(&self, thread: usize) -> Range<usize> {
        thread * self.scratch()..(thread + 1) * self.scratch()
    }

    /// What the parts of one row's queries take.
    pub(super) fn partials(&self) -> usize {
        self.strips * self.of_strip()
    }

    /// What one row's queries get from one strip.
    fn of_strip(&self) -> usize {
        self.heads.div_ceil(self.bundle) * self.mixed()
    }

    /// Where what bundle `bundle` of a unit gets is among what all its bundles get.
    pub(super) fn mixed_of(&self, bundle: usize) -> Range<usize> {
        bundle * self.mixed()..(bundle + 1) * self.mixed()
    }

    /// Where among all partials those for strip `strip`, counted from the unit's first, are, if it is
    /// of the `cut`th unit that is cut.
    pub(super) fn partials_of(&self, cut: usize, strip: usize) -> Range<usize> {
        let first = cut * self.partials() + strip * self.of_strip();
        first..first + self.of_strip()
    }

    pub(super) fn cut<'a>(&self, scratch: &'a mut [f32]) -> Scratch<'a> {
        let width = width(self.dim);
        let (rotated, rest) = scratch.split_at_mut(width);
        let (queries, rest) = rest.split_at_mut(self.queries * width);
        let (scores, rest) = rest.split_at_mut(self.scores());
        let (part, wholes) = rest.split_at_mut(self.mixed());
        Scratch { rotated, queries, scores, part, wholes }
    }

    /// Groups of less than sixteen tokens have the lanes of sixteen.
    fn scores(&self) -> usize {
        self.bundle * MOST_GROUPS * GROUP
    }
}
