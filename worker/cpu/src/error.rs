//! What can go wrong in the CPU backend.

use std::io;

use shardrun_comm::CommError;
use thiserror::Error;

use crate::{BatchError, Isa};

/// A failure of the CPU backend.
#[derive(Debug, Error)]
pub enum CpuError {
    /// The instruction set is not one of this CPU's.
    #[error("this CPU has no {isa}; the best kernels that run here are '{best}'")]
    UnsupportedIsa {
        /// What was asked for.
        isa: Isa,
        /// What would run.
        best: Isa,
    },
    /// No instruction set has this name.
    #[error(
        "'{name}' is no instruction set; known are 'scalar', 'avx2', 'avx512', \
         'avx512bf16' and 'amx'"
    )]
    UnknownIsa {
        /// The name as given.
        name: String,
    },
    /// Activations can't be in bfloat16.
    #[error(
        "model.activations is \"bf16\", and the kernels '{isa}' have no products of bfloat16; \
         'avx512bf16' and 'amx' have, where the CPU has it"
    )]
    NoBfloat16 {
        /// The instruction set that was asked for, or found.
        isa: Isa,
    },
    /// A backend needs a thread.
    #[error("threads is 0; at least 1 is needed")]
    NoThreads,
    /// Pinning needs one core a thread.
    #[error("{threads} threads cannot be pinned to {cores} cores; name one core a thread")]
    CoreCount {
        /// Threads asked for.
        threads: usize,
        /// Cores named.
        cores: usize,
    },
    /// A thread may not run on its core.
    #[error("thread {thread} could not be pinned to core {core}")]
    Pin {
        /// The thread, 0 being the one that makes the backend.
        thread: usize,
        /// The core.
        core: usize,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A thread did not start.
    #[error("thread {thread} could not be started")]
    Spawn {
        /// The thread.
        thread: usize,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// There is not that much memory.
    #[error("no memory for {what}: {bytes} bytes")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much was asked for.
        bytes: u128,
    },
    /// A batch or a copy came before the cache.
    #[error("the cache of keys and values was used before it was allocated")]
    NoCache,
    /// A copy's block is beyond the cache.
    #[error(
        "copy {copy} names cache block {block}, which is not below {limit}, the blocks of the cache"
    )]
    CopyBlock {
        /// Its place among the copies.
        copy: usize,
        /// The block id.
        block: u32,
        /// Blocks in the cache.
        limit: usize,
    },
    /// The batch contradicts itself or the cache.
    #[error("batch refused")]
    Batch(#[from] BatchError),
    /// A peer failed.
    #[error(transparent)]
    Comm(#[from] CommError),
}
