//! Causal attention over the paged cache.
//!
//! Keys and values of all rows go into the cache first; then every query reads both from there
//! alone. What a query gets from a strip of positions, which begins at an absolute one, depends on
//! nothing else; strips are put together one by one in their order. So a prompt gives the same bits
//! however it is cut into chunks, and strips of one query can be computed by different threads.

mod bundle;
mod compute;
mod scratch;
mod store;
mod work;

use std::num::NonZeroUsize;

use shardrun_model::{Batch, HeadShard, Span};

use crate::{
    CpuError, Tensor,
    cache::Cache,
    disjoint::Disjoint,
    kernels::{AttentionKernels, StripHeads},
    pool::share,
};

use super::{Machine, RopeTable, SHARE_OF_PRODUCTS};
use compute::{Attention, Places};
use scratch::Sizes;
use work::{Cuts, Work};

/// Positions whose scores a query has at a time.
const STRIP: usize = 256;

/// Most groups of tokens of a strip, which is shorter where groups are small.
const MOST_GROUPS: usize = 16;

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

fn blocks_of<'a>(batch: &'a Batch, span: &Span) -> &'a [u32] {
    &batch.blocks[span.blocks.clone()]
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
    let layout = cache.layout();
    let columns = heads.query_heads.len() * heads.head_dim;
    assert_eq!(qkv.rows(), batch.rows(), "one row a token");
    assert_eq!(qkv.columns(), columns + 2 * heads.kv_heads.len() * heads.head_dim, "all heads");
    assert_eq!(
        (heads.kv_heads.len(), heads.head_dim),
        (layout.shape.kv_heads, layout.shape.head_dim),
        "the cache's heads"
    );
    let mut mixed = Tensor::new(&machine.workspace, batch.rows(), columns)?;
    if batch.rows() == 0 || columns == 0 {
        return Ok(mixed);
    }
    let kernels = AttentionKernels::new(machine.kernels);
    let cuts = Cuts::new(input.window, STRIP.min(MOST_GROUPS * layout.group_tokens()));
    let products = cuts.products(batch, heads);
    let threads = machine.pool.threads_for(products, SHARE_OF_PRODUCTS);
    let work = Work::new(batch, heads, cuts, threads);
    let strip_heads = StripHeads {
        dtype: layout.shape.dtype,
        dim: heads.head_dim,
        group_tokens: layout.group_tokens(),
    };
    let sizes = Sizes::new(kernels, strip_heads, &work);
    let mut scratch = machine.workspace.take(threads * sizes.scratch())?;
    let mut partials = machine.workspace.take((threads - 1) * sizes.partials())?;

    let barrier = machine.pool.barrier(threads);
    let attention = Attention { kernels, layout, heads: strip_heads, input, sizes };
    let cache = Disjoint::new(cache.as_mut_slice());
    let scratch = Disjoint::new(scratch.as_mut_slice());
    let places = Places {
        mixed: Disjoint::new(mixed.as_mut_slice()),
        partials: Disjoint::new(partials.as_mut_slice()),
    };
    machine.pool.run(threads, |thread, threads| {
        let arrival = barrier.arrival();
        // SAFETY: each thread takes its own.
        let mut scratch = sizes.cut(unsafe { scratch.part(sizes.scratch_of(thread)) });
        for part in share(store::parts(heads), thread, threads) {
            // SAFETY: a part is in one share, and nobody reads before all have arrived.
            unsafe { store::store(kernels, layout, input, (part, &cache), scratch.rotated) };
        }
        arrival.wait();
        // SAFETY: all threads have stored what they store.
        let cache = unsafe { cache.all() };
        attention.run(cache, work.portions(thread), &mut scratch, &places);
    });
    // SAFETY: no other thread runs any more.
    let mut scratch = sizes.cut(unsafe { scratch.part(sizes.scratch_of(0)) });
    for portion in work.cut() {
        attention.join(&portion, &mut scratch, &places);
    }
    Ok(mixed)
}
