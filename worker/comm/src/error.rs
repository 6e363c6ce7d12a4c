//! What can go wrong between ranks.

use std::time::Duration;

use thiserror::Error;

/// A collective or a message that did not come about.
#[derive(Debug, Error)]
pub enum CommError {
    /// A peer did not take part in time.
    #[error("{what}: waited {waited:.1?} for rank {rank}")]
    Timeout {
        /// The operation.
        what: &'static str,
        /// Who was waited for.
        rank: usize,
        /// For how long.
        waited: Duration,
    },
    /// MPI returned an error code.
    #[error("{call} failed: {message} (MPI error {code})")]
    Mpi {
        /// The MPI function.
        call: &'static str,
        /// MPI's own code.
        code: i32,
        /// MPI's own text.
        message: String,
    },
    /// Shared memory could not be set up.
    #[error(transparent)]
    Shm(#[from] shardrun_shm::ShmError),
    /// A message is not what the protocol says.
    #[error("{what}: got {got} bytes, expected {expected}")]
    Length {
        /// The message.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The size that was due.
        expected: usize,
    },
}
