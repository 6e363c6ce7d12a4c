//! Causal attention over the paged cache.
//!
//! Keys and values of all rows go into the cache first; then every query reads both from there
//! alone. A query's scores, their softmax and the weighted sum of values are each computed over
//! absolute positions in ascending order, with nothing of other rows in them: a prompt gives the
//! same bits however it is cut into chunks.

use std::ops::Range;

use shardrun_model::{Batch, HeadShard, Span};

use crate::{
    CpuError, Operand, Tensor,
    cache::{Cache, CacheBlock, Place},
    disjoint::Rectangle,
    kernels::{Kernels, MOST_ROWS},
    matrix::{GROUP, Weights},
    operand::OperandWriter,
};

use super::{Machine, RopeTable, SHARE_OF_ELEMENTS, SHARE_OF_PRODUCTS};

/// What one layer's attention reads, apart from the cache.
pub(crate) struct AttentionInput<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) layer: usize,
    pub(crate) qkv: &'a Tensor,
    pub(crate) heads: &'a HeadShard,
    /// Prepared for the batch.
    pub(crate) rope: &'a RopeTable,
}

/// Causal attention of every row of the batch.
///
/// # Panics
/// If `qkv`, the heads and the cache don't fit each other.
pub(crate) fn attention(
    machine: &mut Machine,
    cache: &mut Cache,
    input: &AttentionInput<'_>,
) -> Result<Operand, CpuError> {
    let AttentionInput { batch, qkv, heads, .. } = *input;
    let shape = cache.layout().shape;
    let columns = heads.query_heads.len() * heads.head_dim;
    assert_eq!(qkv.rows(), batch.rows(), "one row a token");
    assert_eq!(qkv.columns(), columns + 2 * heads.kv_heads.len() * heads.head_dim, "all heads");
    assert_eq!(
        (heads.kv_heads.len(), heads.head_dim),
        (shape.kv_heads, shape.head_dim),
        "the cache's heads"
    );
    let panel_rows = machine.kernels.panel_rows();
    let mut mixed = Operand::new(&machine.workspace, batch.rows(), columns, panel_rows)?;
    if batch.rows() == 0 || columns == 0 {
        return Ok(mixed);
    }
    store(machine, cache, input);
    attend(machine, cache, input, &mixed.writer())?;
    Ok(mixed)
}

/// Puts the rows' keys, rotated, and values into the cache. Threads take whole heads, so that a
/// place in the cache is written by one thread, whatever the block table says.
fn store(machine: &mut Machine, cache: &mut Cache, input: &AttentionInput<'_>) {
    let AttentionInput { batch, layer, qkv, heads, rope } = *input;
    let layout = cache.layout();
    let dim = heads.head_dim;
    let first_key = heads.query_heads.len() * dim;
    let first_value = first_key + heads.kv_heads.len() * dim;
    let work = batch.rows() * heads.kv_heads.len() * dim;
    let threads = machine.pool.threads_for(work, SHARE_OF_ELEMENTS);
    machine.pool.for_each_chunk(
        threads,
        cache.layer_mut(layer),
        layout.slab_len(),
        |head, slab| {
            for span in &batch.spans {
                for row in span.rows.clone() {
                    let position = span.position + row - span.rows.start;
                    let place = Place {
                        block: blocks_of(batch, span)[position / layout.shape.tokens_per_block],
                        slot: position % layout.shape.tokens_per_block,
                    };
                    let qkv = qkv.row(row);
                    rope.rotate(row, &qkv[first_key + head * dim..][..dim], |dimension, value| {
                        layout.put_key(slab, place, dimension, value);
                    });
                    layout.put_value(slab, place, &qkv[first_value + head * dim..][..dim]);
                }
            }
        },
    );
}

fn blocks_of<'a>(batch: &'a Batch, span: &Span) -> &'a [u32] {
    &batch.blocks[span.blocks.clone()]
}

/// Computes all tiles. They go to the threads in turn, since later rows see more and cost more.
fn attend(
    machine: &mut Machine,
    cache: &Cache,
    input: &AttentionInput<'_>,
    mixed: &OperandWriter<'_>,
) -> Result<(), CpuError> {
    let AttentionInput { batch, heads, .. } = *input;
    let seen = |span: &Span| span.position + span.rows.len();
    let longest = batch.spans.iter().map(seen).max().unwrap_or(0);
    let sizes = ScratchSizes::new(heads.head_dim, longest);
    let products: usize = batch.spans.iter().map(|span| span.rows.len() * seen(span)).sum();
    let products = products * heads.query_heads.len() * heads.head_dim;
    let threads = machine.pool.threads_for(products, SHARE_OF_PRODUCTS);
    let mut scratch = machine.workspace.take(threads * sizes.total())?;
    let kernels = machine.kernels;
    machine.pool.for_each_chunk(
        threads,
        scratch.as_mut_slice(),
        sizes.total(),
        |thread, scratch| {
            let mut scratch = sizes.cut(scratch);
            for tile in tiles(batch, heads).skip(thread).step_by(threads) {
                Attention { kernels, cache, input, tile: &tile }.run(&mut scratch, mixed);
            }
        },
    );
    Ok(())
}

/// A few queries that read the same keys and values.
struct Tile<'a> {
    span: &'a Span,
    /// Rows of the batch, within the span.
    rows: Range<usize>,
    /// Query heads, counted from this rank's first, that share `kv_head`.
    queries: Range<usize>,
    kv_head: usize,
}

/// All tiles of a batch, of at most [`MOST_ROWS`] queries each.
fn tiles<'a>(batch: &'a Batch, heads: &'a HeadShard) -> impl Iterator<Item = Tile<'a>> {
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

/// What one thread works in, in floats.
#[derive(Clone, Copy)]
struct ScratchSizes {
    dim: usize,
    /// Scores of one query: all positions, and the rest of the last tile of tokens.
    positions: usize,
    /// Sums of one query: whole tiles of dimensions.
    sums: usize,
}

struct Scratch<'a> {
    sizes: ScratchSizes,
    queries: &'a mut [f32],
    scores: &'a mut [f32],
    sums: &'a mut [f32],
}

impl ScratchSizes {
    fn new(dim: usize, positions: usize) -> Self {
        Self { dim, positions: positions + GROUP, sums: dim.next_multiple_of(GROUP) }
    }

    fn total(&self) -> usize {
        (MOST_ROWS * (self.dim + self.positions + self.sums)).next_multiple_of(GROUP)
    }

    fn cut<'a>(&self, scratch: &'a mut [f32]) -> Scratch<'a> {
        let (queries, rest) = scratch.split_at_mut(MOST_ROWS * self.dim);
        let (scores, rest) = rest.split_at_mut(MOST_ROWS * self.positions);
        let sums = &mut rest[..MOST_ROWS * self.sums];
        Scratch { sizes: *self, queries, scores, sums }
    }
}

/// The computation of one tile.
struct Attention<'a> {
    kernels: Kernels,
    cache: &'a Cache,
    input: &'a AttentionInput<'a>,
    tile: &'a Tile<'a>,
}

impl Attention<'_> {
    fn run(&self, scratch: &mut Scratch<'_>, mixed: &OperandWriter<'_>) {
        let dim = self.input.heads.head_dim;
        let sizes = scratch.sizes;
        let scale = 1.0 / (dim as f32).sqrt();
        let heads = self.tile.queries.len();
        self.rotate(scratch.queries);
        let first = self.tile.span.position + self.tile.rows.start - self.tile.span.rows.start;
        self.score(scratch, first + self.tile.rows.len());

        let mut totals = [0.0; MOST_ROWS];
        for query in 0..self.queries() {
            let seen = first + query / heads + 1;
            let scores = &mut scratch.scores[query * sizes.positions..][..seen];
            totals[query] = self.kernels.softmax(scores, scale);
        }
        scratch.sums.fill(0.0);
        // What all rows see, then what only later rows do.
        self.mix(scratch, 0..first + 1, 0..self.queries());
        for row in 1..self.tile.rows.len() {
            self.mix(scratch, first + 1..first + row + 1, row * heads..(row + 1) * heads);
        }
        for query in 0..self.queries() {
            let sums = &mut scratch.sums[query * sizes.sums..][..dim];
            let total = totals[query];
            for sum in &mut *sums {
                *sum /= total;
            }
            let row = self.tile.rows.start + query / heads;
            let head = self.tile.queries.start + query % heads;
            // SAFETY: a row and query head are in one tile, and a tile is one thread's.
            unsafe { mixed.put(row, head * dim, sums) };
        }
    }

    /// Queries of the tile: of each row in turn, all heads.
    fn queries(&self) -> usize {
        self.tile.rows.len() * self.tile.queries.len()
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

    /// Scores of all queries for the positions before `end`, which their rows may not all see.
    fn score(&self, scratch: &mut Scratch<'_>, end: usize) {
        let dim = self.input.heads.head_dim;
        let stride = scratch.sizes.positions;
        let mut blocks = self.blocks(0..end).peekable();
        while let Some((part, block)) = blocks.next() {
            if let Some((_, next)) = blocks.peek() {
                self.kernels.prefetch(next.keys);
            }
            let tiles = part.slots.len().div_ceil(GROUP);
            let scores = &mut scratch.scores[part.position..];
            for query in 0..self.queries() {
                scores[query * stride..][..tiles * GROUP].fill(0.0);
            }
            let scores = Rectangle::new(scores, self.queries(), tiles * GROUP, stride);
            let keys = Weights::floats(block.keys, tiles, dim, dim);
            self.kernels.multiply_rows(keys, scratch.queries, dim, scores);
        }
    }

    /// Adds the values of `positions`, weighted, to the sums of `queries`.
    fn mix(&self, scratch: &mut Scratch<'_>, positions: Range<usize>, queries: Range<usize>) {
        let layout = self.cache.layout();
        let ScratchSizes { positions: stride, sums, .. } = scratch.sizes;
        let mut blocks = self.blocks(positions).peekable();
        while let Some((part, block)) = blocks.next() {
            if let Some((_, next)) = blocks.peek() {
                self.kernels.prefetch(next.values);
            }
            let values = &block.values[part.slots.start * GROUP..];
            let values = Weights::floats(
                values,
                layout.dimension_tiles(),
                part.slots.len(),
                layout.shape.tokens_per_block,
            );
            let weights = &scratch.scores[queries.start * stride + part.position..];
            let sums = Rectangle::new(
                &mut scratch.sums[queries.start * sums..],
                queries.len(),
                sums,
                sums,
            );
            self.kernels.multiply_rows(values, weights, stride, sums);
        }
    }

    /// The cache blocks that hold `positions`, in order.
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

/// Positions that are in one block.
struct Part {
    /// The first one, in the sequence.
    position: usize,
    /// Where they are in the block.
    slots: Range<usize>,
}
