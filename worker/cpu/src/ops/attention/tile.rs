//! How attention is cut, and what a row sees.

use std::{num::NonZeroUsize, ops::Range};

use shardrun_model::{Batch, HeadShard, Span};

use crate::kernels::MOST_ROWS;

/// A few queries that read the same keys and values.
pub(super) struct Tile<'a> {
    pub(super) span: &'a Span,
    /// Rows of the batch, within the span.
    pub(super) rows: Range<usize>,
    /// Query heads, counted from this rank's first, that share `kv_head`.
    pub(super) queries: Range<usize>,
    pub(super) kv_head: usize,
}

impl Tile<'_> {
    /// Positions that row `row`, counted from the tile's first, sees: those up to its own, the last
    /// `window` of them.
    pub(super) fn seen(&self, row: usize, window: Option<NonZeroUsize>) -> Range<usize> {
        let end = self.span.position + self.rows.start - self.span.rows.start + row + 1;
        window.map_or(0, |window| end.saturating_sub(window.get()))..end
    }
}

/// All tiles of a batch, of at most [`MOST_ROWS`] queries each.
pub(super) fn tiles<'a>(batch: &'a Batch, heads: &'a HeadShard) -> impl Iterator<Item = Tile<'a>> {
    let queries_at_once = heads.queries_per_kv.min(MOST_ROWS);
    let rows_at_once = MOST_ROWS / queries_at_once;
    batch.spans.iter().flat_map(move |span| {
        span.rows.clone().step_by(rows_at_once).flat_map(move |first| {
            let rows = first..span.rows.end.min(first + rows_at_once);
            (0..heads.kv_heads.len()).flat_map(move |kv_head| {
                let rows = rows.clone();
                let all = queries_of(heads, kv_head);
                all.clone().step_by(queries_at_once).map(move |first| Tile {
                    span,
                    rows: rows.clone(),
                    queries: first..all.end.min(first + queries_at_once),
                    kv_head,
                })
            })
        })
    })
}

/// The query heads of this rank that read its `kv_head`-th KV head.
fn queries_of(heads: &HeadShard, kv_head: usize) -> Range<usize> {
    let first = (heads.kv_heads.start + kv_head) * heads.queries_per_kv;
    let start = first.max(heads.query_heads.start);
    let end = (first + heads.queries_per_kv).min(heads.query_heads.end);
    start - heads.query_heads.start..end.max(start) - heads.query_heads.start
}
