//! Keys and values on their way into the cache.

use shardrun_model::{HeadShard, Span};

use crate::{
    cache::{CacheLayout, Part},
    disjoint::Disjoint,
    kernels::AttentionKernels,
    memory::fetch,
};

use super::{AttentionInput, blocks_of};

/// A sequence's place in the cache is asked for while those so many before it are written.
const SPANS_AHEAD: usize = 3;

/// A row's vector is asked for while those so many before it are stored: another CPU may have computed it, and
/// rows are too far apart for prefetchers.
const ROWS_AHEAD: usize = 8;

/// Parts that a layer's blocks have: the keys and the values of each head.
pub(super) fn parts(heads: &HeadShard) -> usize {
    2 * heads.kv_heads.len()
}

/// Puts the rows' keys, rotated, or their values into part `part` of the layer's blocks. So threads
/// take whole parts, and a place in the cache is written by one thread, whatever the block table
/// says.
///
/// # Safety
/// Nobody else touches that part of any block.
pub(super) unsafe fn store(
    kernels: AttentionKernels,
    layout: CacheLayout,
    input: &AttentionInput<'_>,
    (part, cache): (usize, &Disjoint<'_, u8>),
    rotated: &mut [f32],
) {
    let AttentionInput { batch, layer, qkv, heads, rope, .. } = *input;
    let (dim, kv_heads) = (heads.head_dim, heads.kv_heads.len());
    let (head, of_keys) = (part / 2, part.is_multiple_of(2));
    let (what, number) = if of_keys { (Part::Keys, head) } else { (Part::Values, kv_heads + head) };
    let first = (heads.query_heads.len() + number) * dim;
    let tokens = layout.shape.tokens_per_block;
    let place = |span: &Span, position: usize| {
        let block = blocks_of(batch, span)[position / tokens];
        // SAFETY: the caller has it alone.
        unsafe { cache.part(layout.part(what, (layer, head), block)) }
    };
    for (at, span) in batch.spans.iter().enumerate() {
        if let Some(soon) = batch.spans.get(at + SPANS_AHEAD).filter(|span| !span.rows.is_empty()) {
            let group = layout.group_of(what, soon.position % tokens);
            kernels.prefetch(&place(soon, soon.position)[group]);
        }
        for row in span.rows.clone() {
            let position = span.position + row - span.rows.start;
            let place = place(span, position);
            if row + ROWS_AHEAD < qkv.rows() {
                fetch(bytemuck::cast_slice(&qkv.row(row + ROWS_AHEAD)[first..first + dim]));
            }
            let mut vector = &qkv.row(row)[first..first + dim];
            if of_keys {
                kernels.rotate(rope.turns(row), vector, &mut rotated[..dim]);
                vector = &rotated[..dim];
            }
            layout.put(what, place, position % tokens, vector);
        }
    }
}
