//! Copies of blocks within the cache.

use shardrun_model::BlockCopy;

use crate::{CpuError, cache::Cache};

use super::{Machine, SHARE_OF_ELEMENTS};

/// Copies blocks of all layers and heads, in this order, if all are in the cache. Threads take
/// whole heads of a layer, where copies follow each other in order.
pub(crate) fn copy_blocks(
    machine: &mut Machine,
    cache: &mut Cache,
    copies: &[BlockCopy],
) -> Result<(), CpuError> {
    let layout = cache.layout();
    let limit = layout.shape.blocks;
    for (copy, &BlockCopy { from, to }) in copies.iter().enumerate() {
        if let Some(block) = [from, to].into_iter().find(|&block| block as usize >= limit) {
            return Err(CpuError::CopyBlock { copy, block, limit });
        }
    }
    let block_bytes = layout.block_bytes();
    let slabs = cache.slabs_mut();
    if copies.is_empty() || slabs.is_empty() {
        return Ok(());
    }
    let floats = slabs.len() / limit * copies.len() / size_of::<f32>();
    let threads = machine.pool.threads_for(floats, SHARE_OF_ELEMENTS);
    machine.pool.for_each_chunk(threads, slabs, layout.slab_bytes(), |_, slab| {
        for &BlockCopy { from, to } in copies {
            let from = from as usize * block_bytes;
            slab.copy_within(from..from + block_bytes, to as usize * block_bytes);
        }
    });
    Ok(())
}
