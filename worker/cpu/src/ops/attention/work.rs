//! How attention is cut into units, how threads share them, and what a row sees.

use std::{num::NonZeroUsize, ops::Range};

use shardrun_model::{Batch, HeadShard, Span};

/// Queries of a unit, about: so many that keys and values are worth bringing near, so few that the
/// queries stay near themselves.
const QUERIES_AT_ONCE: usize = 96;

/// What reading a position costs, in queries for which it is computed.
const READING: usize = 8;

/// Queries that read the same keys and values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit<'a> {
    pub(super) span: &'a Span,
    /// Rows of the batch, within the span.
    pub(super) rows: Range<usize>,
    /// Query heads, counted from this rank's first, that share `kv_head`.
    pub(super) heads: Range<usize>,
    pub(super) kv_head: usize,
    cuts: Cuts,
}

/// What every unit must know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cuts {
    /// Positions that a row sees at most.
    pub(super) window: usize,
    /// Positions of a strip.
    pub(super) strip: usize,
}

/// A unit, or some of its strips.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Portion<'a> {
    pub(super) unit: Unit<'a>,
    /// Strips of the sequence.
    pub(super) strips: Range<usize>,
    /// Which of all units that are cut it is a part of; those are fewer than threads.
    pub(super) cut: Option<usize>,
}

/// All units of a batch, as threads share them. Units of one row are cut between strips where that
/// makes shares more even.
pub(super) struct Work<'a> {
    batch: &'a Batch,
    heads: &'a HeadShard,
    cuts: Cuts,
    threads: usize,
    rows_at_once: usize,
    cost: usize,
}

impl Cuts {
    pub(super) fn new(window: Option<NonZeroUsize>, strip: usize) -> Self {
        Self { window: window.map_or(usize::MAX, NonZeroUsize::get), strip }
    }

    /// Positions that some row of `span` sees in one go, at most.
    fn seen(&self, span: &Span) -> usize {
        self.window.min(span.position + span.rows.len())
    }

    /// Multiply-adds that scores and sums take.
    pub(super) fn products(&self, batch: &Batch, heads: &HeadShard) -> usize {
        let rows: usize = batch.spans.iter().map(|span| span.rows.len() * self.seen(span)).sum();
        2 * rows * heads.query_heads.len() * heads.head_dim
    }
}

impl<'a> Work<'a> {
    pub(super) fn new(batch: &'a Batch, heads: &'a HeadShard, cuts: Cuts, threads: usize) -> Self {
        // A few units for each thread, if there is enough to do.
        let rows = batch.rows() * heads.kv_heads.len() / (4 * threads);
        let most = (QUERIES_AT_ONCE / heads.queries_per_kv).max(1);
        let rows_at_once = rows.clamp(2.min(most), most);
        let mut work = Self { batch, heads, cuts, threads, rows_at_once, cost: 0 };
        work.cost = work.units().map(|unit| unit.cost()).sum();
        work
    }

    pub(super) fn heads(&self) -> &'a HeadShard {
        self.heads
    }

    /// Queries that a unit has at most.
    pub(super) fn most_queries(&self) -> usize {
        self.rows_at_once * self.heads.queries_per_kv
    }

    /// Strips that the row of a unit of one row sees a part of, at most; with room for positions up to
    /// the next multiple of `at_once`. None if no unit is of one row.
    pub(super) fn most_strips(&self, at_once: usize) -> usize {
        let alone = |span: &&Span| {
            !span.rows.is_empty() && (span.rows.len() - 1).is_multiple_of(self.rows_at_once)
        };
        let seen = self.batch.spans.iter().filter(alone).map(|span| self.cuts.seen(span));
        seen.max().map_or(0, |seen| seen.next_multiple_of(at_once).div_ceil(self.cuts.strip) + 1)
    }

    /// What thread `thread` computes.
    pub(super) fn portions(&self, thread: usize) -> impl Iterator<Item = Portion<'a>> {
        let (start, end) = (self.boundary(thread), self.boundary(thread + 1));
        self.costed()
            .skip_while(move |(unit, cost)| cost + unit.cost() <= start)
            .take_while(move |(_, cost)| *cost < end)
            .filter_map(move |(unit, cost)| {
                let all = unit.strips();
                let strips = unit.nearest_strip(start, cost)..unit.nearest_strip(end, cost);
                let cut = (strips != all).then(|| self.owner(cost));
                (!strips.is_empty()).then_some(Portion { unit, strips, cut })
            })
    }

    /// Whole units that several threads have parts of.
    pub(super) fn cut(&self) -> impl Iterator<Item = Portion<'a>> {
        self.costed().filter_map(|(unit, cost)| {
            let strips = unit.strips();
            let boundaries = self.owner(cost) + 1..self.threads;
            let cuts = boundaries.map(|thread| unit.nearest_strip(self.boundary(thread), cost));
            let cut =
                cuts.take_while(|&strip| strip < strips.end).any(|strip| strip > strips.start);
            cut.then(|| Portion { cut: Some(self.owner(cost)), strips, unit })
        })
    }

    /// The cost at which the share of `thread` begins.
    fn boundary(&self, thread: usize) -> usize {
        (self.cost as u128 * thread as u128 / self.threads as u128) as usize
    }

    /// The thread in whose share a unit of this cost before it begins.
    fn owner(&self, cost: usize) -> usize {
        (1..self.threads).take_while(|&thread| self.boundary(thread) <= cost).count()
    }

    /// All units, with the cost of those before them. Units of a head follow each other.
    fn costed(&self) -> impl Iterator<Item = (Unit<'a>, usize)> {
        self.units().scan(0, |cost, unit| {
            let before = *cost;
            *cost += unit.cost();
            Some((unit, before))
        })
    }

    fn units(&self) -> impl Iterator<Item = Unit<'a>> + use<'a> {
        let Self { batch, heads, cuts, rows_at_once, .. } = *self;
        let of_head = move |span: &'a Span, kv_head: usize| {
            span.rows.clone().step_by(rows_at_once).map(move |first| Unit {
                span,
                rows: first..span.rows.end.min(first + rows_at_once),
                heads: queries_of(heads, kv_head),
                kv_head,
                cuts,
            })
        };
        let of_span = move |span: &'a Span| {
            (0..heads.kv_heads.len()).flat_map(move |kv_head| of_head(span, kv_head))
        };
        batch.spans.iter().flat_map(of_span).filter(|unit| !unit.heads.is_empty())
    }
}

impl Unit<'_> {
    pub(super) fn queries(&self) -> usize {
        self.rows.len() * self.heads.len()
    }

    /// Positions that row `row` of the batch sees: those up to its own, the last `window` of them.
    pub(super) fn seen(&self, row: usize) -> Range<usize> {
        let end = self.span.position + row - self.span.rows.start + 1;
        end.saturating_sub(self.cuts.window)..end
    }

    /// Positions that some row sees.
    pub(super) fn positions(&self) -> Range<usize> {
        self.seen(self.rows.start).start..self.seen(self.rows.end - 1).end
    }

    /// Positions of strip `strip` that some row sees.
    pub(super) fn positions_of(&self, strip: usize) -> Range<usize> {
        let (all, len) = (self.positions(), self.cuts.strip);
        all.start.max(strip * len)..all.end.min((strip + 1) * len)
    }

    /// Strips of the sequence that hold those.
    pub(super) fn strips(&self) -> Range<usize> {
        let positions = self.positions();
        positions.start / self.cuts.strip..positions.end.div_ceil(self.cuts.strip)
    }

    fn cost(&self) -> usize {
        self.positions().len() * self.weight()
    }

    /// What each position costs.
    fn weight(&self) -> usize {
        self.queries() + READING
    }

    /// Where the unit, whose cost begins at `cost`, is cut to have about `boundary - cost` before the
    /// cut: the first strip after it.
    fn nearest_strip(&self, boundary: usize, cost: usize) -> usize {
        let (positions, strips) = (self.positions(), self.strips());
        let before = boundary.saturating_sub(cost) / self.weight();
        if before == 0 || before >= positions.len() {
            return if before == 0 { strips.start } else { strips.end };
        }
        if self.rows.len() > 1 {
            return if 2 * before < positions.len() { strips.start } else { strips.end };
        }
        let strip = self.cuts.strip;
        let nearest = (positions.start + before + strip / 2) / strip;
        nearest.clamp(strips.start, strips.end)
    }
}

/// The query heads of this rank that read its `kv_head`-th KV head.
fn queries_of(heads: &HeadShard, kv_head: usize) -> Range<usize> {
    let first = (heads.kv_heads.start + kv_head) * heads.queries_per_kv;
    let start = first.max(heads.query_heads.start);
    let end = (first + heads.queries_per_kv).min(heads.query_heads.end);
    start - heads.query_heads.start..end.max(start) - heads.query_heads.start
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Sequences of so many rows, after so many positions.
    fn batch(sequences: &[(usize, usize)]) -> Batch {
        let mut batch = Batch::default();
        for &(rows, position) in sequences {
            let first = batch.tokens.len();
            batch.tokens.resize(first + rows, 0);
            batch.spans.push(Span { rows: first..first + rows, position, blocks: 0..0 });
        }
        batch
    }

    #[test]
    fn threads_share_all_units_and_each_strip_is_of_one() {
        let batches = [
            batch(&[(512, 0)]),
            batch(&[(1, 150)]),
            batch(&[(1, 4000)]),
            batch(&[(1, 1), (1, 900), (40, 200), (1, 127), (3, 0)]),
            batch(&[(0, 5), (2, 1000)]),
        ];
        let heads = [
            HeadShard { query_heads: 0..9, kv_heads: 0..3, queries_per_kv: 3, head_dim: 64 },
            HeadShard { query_heads: 3..23, kv_heads: 0..2, queries_per_kv: 12, head_dim: 8 },
            HeadShard { query_heads: 0..1, kv_heads: 0..1, queries_per_kv: 1, head_dim: 8 },
        ];
        for batch in &batches {
            for heads in &heads {
                for window in [None, NonZeroUsize::new(1), NonZeroUsize::new(300)] {
                    for threads in [1, 2, 3, 8, 40] {
                        check(&Work::new(batch, heads, Cuts::new(window, 128), threads));
                    }
                }
            }
        }
    }

    fn check(work: &Work<'_>) {
        let key = |unit: &Unit<'_>| (unit.rows.start, unit.kv_head);
        let mut strips = Vec::new();
        let mut cut = Vec::new();
        let costs = (0..work.threads).map(|thread| {
            let mut cost = 0;
            for portion in work.portions(thread) {
                let positions = |strip| portion.unit.positions_of(strip).len();
                let len: usize = portion.strips.clone().map(positions).sum();
                cost += len * portion.unit.weight();
                strips.extend(portion.strips.clone().map(|strip| (key(&portion.unit), strip)));
                cut.extend(portion.cut.map(|number| (number, key(&portion.unit))));
                assert_eq!(portion.cut.is_some(), portion.strips != portion.unit.strips());
            }
            cost
        });
        let costs: Vec<usize> = costs.collect();
        let expected: Vec<_> = work
            .units()
            .flat_map(|unit| unit.strips().map(move |strip| (key(&unit), strip)))
            .collect();
        assert_eq!(strips, expected, "in order, each once");
        cut.dedup();
        let whole: Vec<_> =
            work.cut().map(|portion| (portion.cut.unwrap(), key(&portion.unit))).collect();
        assert_eq!(cut, whole);
        assert!(cut.iter().all(|&(number, _)| number + 1 < work.threads));
        assert!(cut.is_sorted_by(|one, next| one.0 < next.0), "a place of its own");
        // No more than what can't be cut is between a share and its part.
        let piece = |unit: Unit<'_>| {
            let most = if unit.rows.len() > 1 { usize::MAX } else { work.cuts.strip };
            unit.positions().len().min(most) * unit.weight()
        };
        let largest = work.units().map(piece).max().unwrap_or(0);
        let share = work.cost / work.threads;
        assert!(costs.iter().all(|&cost| cost.abs_diff(share) <= largest + 1), "{costs:?}");
    }

    #[test]
    fn a_long_sequence_keeps_both_threads_busy() {
        let batch = batch(&[(1, 4000)]);
        let heads =
            HeadShard { query_heads: 0..9, kv_heads: 0..3, queries_per_kv: 3, head_dim: 64 };
        let work = Work::new(&batch, &heads, Cuts::new(None, 128), 2);
        let strips = |thread| work.portions(thread).map(|portion| portion.strips.len()).sum();
        let shares: [usize; 2] = [strips(0), strips(1)];
        assert_eq!(shares, [48, 48]);
    }
}
