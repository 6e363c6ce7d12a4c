//! What a few queries get from one strip.

use std::ops::Range;

use crate::{
    cache::TokenGroup,
    disjoint::Rectangle,
    kernels::{AttentionKernels, Mixed, Strip, width},
    matrix::GROUP,
};

use super::{compute::Gathered, work::Unit};

/// A few queries of a unit, and the keys and values of one of its strips.
pub(super) struct Bundle<'a> {
    pub(super) unit: &'a Unit<'a>,
    /// Counted from the unit's first: of each row in turn, all heads.
    pub(super) queries: Range<usize>,
    pub(super) strip: Strip<'a>,
    /// Where that is in the sequence.
    pub(super) now: &'a Gathered<'a>,
    /// What to ask for meanwhile.
    pub(super) ahead: &'a [TokenGroup<'a>],
}

impl Bundle<'_> {
    /// Computes what the queries get from the strip. Those of the bundle that get something there are
    /// the result. `packed` has all queries of the unit.
    pub(super) fn attend(
        &self,
        kernels: AttentionKernels,
        packed: &[f32],
        scores: &mut [f32],
        part: &mut Mixed<'_>,
    ) -> Range<usize> {
        part.greatest.fill(f32::NEG_INFINITY);
        part.totals.fill(0.0);
        let Some(rows) = self.seeing() else { return 0..0 };
        let queries = self.queries_of(rows.clone());
        let tokens = self.seen(rows.start).start..self.seen(rows.end - 1).end;
        let group_tokens = self.strip.group_tokens();
        let groups = tokens.start / group_tokens..tokens.end.div_ceil(group_tokens);
        let skipped = groups.start * group_tokens;
        let strip = self.strip.part(groups).fetching(self.ahead);
        let mut seen = [const { 0..0 }; GROUP];
        let seen = &mut seen[..queries.len()];
        for row in rows {
            let tokens = self.seen(row);
            let of_row = self.queries_of(row..row + 1);
            seen[of_row.start - queries.start..of_row.end - queries.start]
                .fill(tokens.start - skipped..tokens.end - skipped);
        }

        let (lanes, width) = (strip.lanes(), width(strip.dim()));
        let mut rectangle = Rectangle::new(scores, queries.len(), lanes, lanes);
        kernels.score(&strip, &packed[queries.start * width..], &mut rectangle);
        for (query, seen) in seen.iter().enumerate() {
            hide(rectangle.row(query), seen, group_tokens);
        }
        let first = queries.start - self.queries.start;
        let seeing = first..first + queries.len();
        kernels.weigh(&strip, &mut rectangle, first, part);

        for group in self.ahead.get(lanes / GROUP..).unwrap_or_default() {
            kernels.prefetch(group.keys);
            kernels.prefetch(group.values);
        }
        let sums = &mut part.sums[seeing.start * width..seeing.end * width];
        let mut sums = Rectangle::new(sums, queries.len(), width, width);
        kernels.mix(&strip, seen, (scores, lanes), &mut sums);
        seeing
    }

    /// Rows, counted from the unit's first, that see some of the strip and have queries in the bundle.
    fn seeing(&self) -> Option<Range<usize>> {
        let heads = self.unit.heads.len();
        let rows = self.queries.start / heads..(self.queries.end - 1) / heads + 1;
        let mut seeing = rows.filter(|&row| !self.seen(row).is_empty());
        let first = seeing.next()?;
        Some(first..seeing.next_back().unwrap_or(first) + 1)
    }

    /// Queries of rows in the bundle.
    fn queries_of(&self, rows: Range<usize>) -> Range<usize> {
        let heads = self.unit.heads.len();
        self.queries.start.max(rows.start * heads)..self.queries.end.min(rows.end * heads)
    }

    /// Tokens of the strip that a row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        let seen = self.unit.seen(self.unit.rows.start + row);
        let start = seen.start.max(self.now.positions.start);
        let end = seen.end.min(self.now.positions.end).max(start);
        start - self.now.first..end - self.now.first
    }
}

/// Gives the tokens that a row doesn't see, and lanes of no token, the score minus infinity.
fn hide(scores: &mut [f32], seen: &Range<usize>, group_tokens: usize) {
    if group_tokens == GROUP {
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
        return;
    }
    for (group, scores) in scores.chunks_exact_mut(GROUP).enumerate() {
        let first = group * group_tokens;
        for (lane, score) in scores.iter_mut().enumerate() {
            if lane >= group_tokens || !seen.contains(&(first + lane)) {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}
