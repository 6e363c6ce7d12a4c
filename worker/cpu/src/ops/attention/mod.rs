//! Causal attention over the paged cache.
//!
//! Keys and values of all rows go into the cache first; then every query reads both from there
//! alone. A query's scores, their softmax and the weighted sum of values are each computed over
//! absolute positions in ascending order, with nothing of other rows in them: a prompt gives the
//! same bits however it is cut into chunks.

mod compute;
mod tile;

use std::num::NonZeroUsize;

use shardrun_model::{Batch, HeadShard, Span};

use crate::{
    CpuError, Tensor,
    cache::{Cache, Place},
    disjoint::Disjoint,
};

use super::{Machine, RopeTable, SHARE_OF_ELEMENTS, SHARE_OF_PRODUCTS};
use compute::{Attention, ScratchSizes};

/// Scores have room for so many positions at a time, so that their memory isn't made anew as
/// sequences grow.
const POSITIONS_AT_ONCE: usize = 2048;

/// What one layer's attention reads, apart from the cache.
pub(crate) struct AttentionInput<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) layer: usize,
    pub(crate) qkv: &'a Tensor,
    pub(crate) heads: &'a HeadShard,
    /// Prepared for the batch.
    pub(crate) rope: &'a RopeTable,
    /// Tokens that a row sees, its own included; `None` for all up to it.
    pub(crate) window: Option<NonZeroUsize>,
}

/// Causal attention of every row of the batch: `[rows, query heads * head_dim]`.
///
/// # Panics
/// If `qkv`, the heads and the cache don't fit each other.
pub(crate) fn attention(
    machine: &mut Machine,
    cache: &mut Cache,
    input: &AttentionInput<'_>,
) -> Result<Tensor, CpuError> {
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
    let mut mixed = Tensor::new(&machine.workspace, batch.rows(), columns)?;
    if batch.rows() == 0 || columns == 0 {
        return Ok(mixed);
    }
    store(machine, cache, input)?;
    attend(machine, cache, input, &Disjoint::new(mixed.as_mut_slice()))?;
    Ok(mixed)
}

/// Puts the rows' keys, rotated, and values into the cache. Threads take whole heads, so that a
/// place in the cache is written by one thread, whatever the block table says.
fn store(
    machine: &mut Machine,
    cache: &mut Cache,
    input: &AttentionInput<'_>,
) -> Result<(), CpuError> {
    let AttentionInput { batch, layer, qkv, heads, rope, .. } = *input;
    let layout = cache.layout();
    let dim = heads.head_dim;
    let first_key = heads.query_heads.len() * dim;
    let first_value = first_key + heads.kv_heads.len() * dim;
    let work = batch.rows() * heads.kv_heads.len() * dim;
    let threads = machine.pool.threads_for(work, SHARE_OF_ELEMENTS);
    let mut rotated = machine.workspace.take(heads.kv_heads.len() * dim)?;
    let rotated = Disjoint::new(rotated.as_mut_slice());
    machine.pool.for_each_chunk(
        threads,
        cache.layer_mut(layer),
        layout.slab_bytes(),
        |head, slab| {
            // SAFETY: a head is one chunk, and a chunk is one thread's.
            let key = unsafe { rotated.part(head * dim..(head + 1) * dim) };
            for span in &batch.spans {
                for row in span.rows.clone() {
                    let position = span.position + row - span.rows.start;
                    let place = Place {
                        block: blocks_of(batch, span)[position / layout.shape.tokens_per_block],
                        slot: position % layout.shape.tokens_per_block,
                    };
                    let qkv = qkv.row(row);
                    let unrotated = &qkv[first_key + head * dim..][..dim];
                    rope.rotate(row, unrotated, |at, element| key[at] = element);
                    layout.put_key(slab, place, key);
                    layout.put_value(slab, place, &qkv[first_value + head * dim..][..dim]);
                }
            }
        },
    );
    Ok(())
}

fn blocks_of<'a>(batch: &'a Batch, span: &Span) -> &'a [u32] {
    &batch.blocks[span.blocks.clone()]
}

/// Computes all tiles. They go to the threads in turn, since later rows see more and cost more.
fn attend(
    machine: &mut Machine,
    cache: &Cache,
    input: &AttentionInput<'_>,
    mixed: &Disjoint<'_, f32>,
) -> Result<(), CpuError> {
    let AttentionInput { batch, heads, window, .. } = *input;
    let window = window.map_or(usize::MAX, NonZeroUsize::get);
    let seen = |span: &Span| window.min(span.position + span.rows.len());
    let longest = batch.spans.iter().map(seen).max().unwrap_or(0);
    let sizes = ScratchSizes::new(heads.head_dim, longest);
    let products: usize = batch.spans.iter().map(|span| span.rows.len() * seen(span)).sum();
    let products = products * heads.query_heads.len() * heads.head_dim;
    let threads = machine.pool.threads_for(products, SHARE_OF_PRODUCTS);
    let room = ScratchSizes::new(heads.head_dim, longest.next_multiple_of(POSITIONS_AT_ONCE));
    let mut scratch = machine.workspace.take(threads * room.total())?;
    let scratch = &mut scratch.as_mut_slice()[..threads * sizes.total()];
    let kernels = machine.kernels;
    machine.pool.for_each_chunk(threads, scratch, sizes.total(), |thread, scratch| {
        let mut scratch = sizes.cut(scratch);
        for tile in tile::tiles(batch, heads).skip(thread).step_by(threads) {
            Attention::new(kernels, cache, input, &tile).run(&mut scratch, mixed);
        }
    });
    Ok(())
}
