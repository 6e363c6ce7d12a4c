//! The computation of one tile: scores, their softmax, and the weighted sums of values.

use std::ops::Range;

use crate::{
    cache::{Cache, CacheBlock},
    disjoint::{Disjoint, Rectangle},
    kernels::{Kernels, MOST_ROWS},
    matrix::GROUP,
};

use super::{AttentionInput, blocks_of, tile::Tile};

/// What one thread works in, in floats.
#[derive(Clone, Copy)]
pub(super) struct ScratchSizes {
    dim: usize,
    /// Scores of one query: positions that some row of a tile sees, and the rest of the first and the
    /// last tile of tokens.
    positions: usize,
    /// Sums of one query: whole tiles of dimensions.
    sums: usize,
}

pub(super) struct Scratch<'a> {
    sizes: ScratchSizes,
    queries: &'a mut [f32],
    scores: &'a mut [f32],
    sums: &'a mut [f32],
}

impl ScratchSizes {
    /// For heads of `dim` elements and rows that see up to `positions` positions.
    pub(super) fn new(dim: usize, positions: usize) -> Self {
        let positions = positions + MOST_ROWS + 2 * GROUP;
        Self { dim, positions, sums: dim.next_multiple_of(GROUP) }
    }

    pub(super) fn total(&self) -> usize {
        (MOST_ROWS * (self.dim + self.positions + self.sums)).next_multiple_of(GROUP)
    }

    pub(super) fn cut<'a>(&self, scratch: &'a mut [f32]) -> Scratch<'a> {
        let (queries, rest) = scratch.split_at_mut(MOST_ROWS * self.dim);
        let (scores, rest) = rest.split_at_mut(MOST_ROWS * self.positions);
        let sums = &mut rest[..MOST_ROWS * self.sums];
        Scratch { sizes: *self, queries, scores, sums }
    }
}

/// The computation of one tile.
pub(super) struct Attention<'a> {
    kernels: Kernels,
    cache: &'a Cache,
    input: &'a AttentionInput<'a>,
    tile: &'a Tile<'a>,
    /// The position of the first score: where the tile of tokens begins that holds the first position
    /// that is seen.
    first: usize,
}

impl<'a> Attention<'a> {
    pub(super) fn new(
        kernels: Kernels,
        cache: &'a Cache,
        input: &'a AttentionInput<'a>,
        tile: &'a Tile<'a>,
    ) -> Self {
        let start = tile.seen(0, input.window).start;
        let first = start - start % cache.layout().shape.tokens_per_block % GROUP;
        Self { kernels, cache, input, tile, first }
    }

    pub(super) fn run(&self, scratch: &mut Scratch<'_>, mixed: &Disjoint<'_, f32>) {
        let dim = self.input.heads.head_dim;
        let sizes = scratch.sizes;
        let scale = 1.0 / (dim as f32).sqrt();
        let heads = self.tile.queries.len();
        self.rotate(scratch.queries);
        self.score(scratch);

        let mut totals = [0.0; MOST_ROWS];
        for query in 0..self.queries() {
            let seen = self.seen(query / heads);
            let scores = &mut scratch.scores[query * sizes.positions..][..sizes.positions];
            let scores = &mut scores[seen.start - self.first..seen.end - self.first];
            totals[query] = self.kernels.softmax(scores, scale);
        }
        scratch.sums.fill(0.0);
        self.mix_all(scratch);
        for query in 0..self.queries() {
            let sums = &scratch.sums[query * sizes.sums..][..dim];
            let row = self.tile.rows.start + query / heads;
            let head = self.tile.queries.start + query % heads;
            let first = (row * self.input.heads.query_heads.len() + head) * dim;
            // SAFETY: a row and query head are in one tile, and a tile is one thread's.
            let mixed = unsafe { mixed.part(first..first + dim) };
            for (mixed, sum) in mixed.iter_mut().zip(sums) {
                *mixed = sum / totals[query];
            }
        }
    }

    /// Queries of the tile: of each row in turn, all heads.
    fn queries(&self) -> usize {
        self.tile.rows.len() * self.tile.queries.len()
    }

    /// Positions that the tile's `row`-th row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        self.tile.seen(row, self.input.window)
    }

    /// Writes the rotated queries to `queries`, `[queries, dim]`.
    fn rotate(&self, queries: &mut [f32]) {
        let dim = self.input.heads.head_dim;
        let mut places = queries.chunks_exact_mut(dim);
        for row in self.tile.rows.clone() {
            for head in self.tile.queries.clone() {
                let place = places.next().expect("room for all queries of a tile");
                let query = &self.input.qkv.row(row)[head * dim..][..dim];
                self.input.rope.rotate(row, query, |at, element| place[at] = element);
            }
        }
    }

    /// Scores of all queries for the positions that some row sees; the others may not see them all.
    fn score(&self, scratch: &mut Scratch<'_>) {
        let dim = self.input.heads.head_dim;
        let stride = scratch.sizes.positions;
        let end = self.seen(self.tile.rows.len() - 1).end;
        let mut blocks = self.blocks(self.first..end).peekable();
        while let Some((part, block)) = blocks.next() {
            if let Some((_, next)) = blocks.peek() {
                self.kernels.prefetch(next.keys.lanes);
            }
            let tiles = part.slots.len().div_ceil(GROUP);
            let scores = &mut scratch.scores[part.position - self.first..];
            for query in 0..self.queries() {
                scores[query * stride..][..tiles * GROUP].fill(0.0);
            }
            let keys = block.keys.weights(part.slots.start / GROUP * dim, tiles, dim, dim);
            let sums = Rectangle::new(scores, self.queries(), tiles * GROUP, stride);
            self.kernels.multiply_rows(keys, scratch.queries, dim, sums);
            scale(scores, stride, self.queries(), block.keys.scales_of(&part.slots));
        }
    }

    /// Adds all values to the sums, each query's in the order of their positions.
    fn mix_all(&self, scratch: &mut Scratch<'_>) {
        let rows = self.tile.rows.len();
        let heads = self.tile.queries.len();
        let of_row = |row: usize| row * heads..(row + 1) * heads;
        // What all rows see; before it is what only earlier rows do, after it what only later ones do.
        let start = self.seen(rows - 1).start;
        let shared = start..self.seen(0).end.max(start);
        for row in 0..rows {
            let seen = self.seen(row);
            self.mix(scratch, seen.start..seen.end.min(shared.start), of_row(row));
        }
        self.mix(scratch, shared.clone(), 0..self.queries());
        for row in 0..rows {
            self.mix(scratch, shared.end..self.seen(row).end, of_row(row));
        }
    }

    /// Adds the values of `positions`, weighted, to the sums of `queries`.
    fn mix(&self, scratch: &mut Scratch<'_>, positions: Range<usize>, queries: Range<usize>) {
        if positions.is_empty() {
            return;
        }
        let layout = self.cache.layout();
        let tokens = layout.shape.tokens_per_block;
        let ScratchSizes { positions: stride, sums, .. } = scratch.sizes;
        let mut blocks = self.blocks(positions).peekable();
        while let Some((part, block)) = blocks.next() {
            if let Some((_, next)) = blocks.peek() {
                self.kernels.prefetch(next.values.lanes);
            }
            let (first, slots) = (part.slots.start, part.slots.len());
            let values = block.values.weights(first, layout.dimension_tiles(), slots, tokens);
            let weights =
                &mut scratch.scores[queries.start * stride + part.position - self.first..];
            // A query's weight of a position comes by here once.
            scale(weights, stride, queries.len(), block.values.scales_of(&part.slots));
            let sums = Rectangle::new(
                &mut scratch.sums[queries.start * sums..],
                queries.len(),
                sums,
                sums,
            );
            self.kernels.multiply_rows(values, weights, stride, sums);
        }
    }

    /// The cache blocks that hold `positions`, which are some, in order.
    fn blocks(&self, positions: Range<usize>) -> impl Iterator<Item = (Part, CacheBlock<'_>)> {
        let tokens = self.cache.layout().shape.tokens_per_block;
        let table = blocks_of(self.input.batch, self.tile.span);
        (positions.start / tokens..positions.end.div_ceil(tokens)).map(move |at| {
            let position = positions.start.max(at * tokens);
            let end = positions.end.min((at + 1) * tokens);
            let part = Part { position, slots: position - at * tokens..end - at * tokens };
            (part, self.cache.block(self.input.layer, self.tile.kv_head, table[at]))
        })
    }
}

/// Multiplies what each of `queries` has for some tokens, `stride` apart, by the tokens' scales.
fn scale(numbers: &mut [f32], stride: usize, queries: usize, scales: &[f32]) {
    if scales.is_empty() {
        return;
    }
    for query in 0..queries {
        for (number, scale) in numbers[query * stride..].iter_mut().zip(scales) {
            *number *= scale;
        }
    }
}

/// Positions that are in one block.
struct Part {
    /// The first one, in the sequence.
    position: usize,
    /// Where they are in the block.
    slots: Range<usize>,
}
