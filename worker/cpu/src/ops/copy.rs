//! Copies of blocks within the cache.

use std::ptr;

use shardrun_model::BlockCopy;

use crate::{CpuError, cache::Cache, disjoint::Disjoint, pool::share};

use super::{Machine, SHARE_OF_ELEMENTS};

/// Copies blocks, in this order, if all are in the cache. Threads take shares of every block, where copies
/// follow each other in order.
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
    let floats = block_bytes / size_of::<f32>() * copies.len();
    let threads = machine.pool.threads_for(floats, SHARE_OF_ELEMENTS);
    let blocks = Disjoint::new(cache.as_mut_slice());
    machine.pool.run(threads, |thread, threads| {
        let share = share(block_bytes, thread, threads);
        let place = |block: u32| {
            let first = block as usize * block_bytes;
            blocks.pointer(first + share.start..first + share.end)
        };
        for &BlockCopy { from, to } in copies {
            // SAFETY: both places were found to have as many bytes, which are this thread's alone.
            unsafe { ptr::copy(place(from), place(to), share.len()) };
        }
    });
    Ok(())
}
