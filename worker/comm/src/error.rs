//! What can go wrong between ranks.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Who did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One rank of the group.
    Rank(usize),
    /// Some of them; MPI does not say who.
    Others,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank(rank) => write!(f, "rank {rank}"),
            Self::Others => f.write_str("the other ranks"),
        }
    }
}

/// A collective or a message that did not come about.
#[derive(Debug, Error)]
pub enum CommError {
    /// A peer did not take part in time.
    #[error("{what}: waited {waited:.1?} for {peer}")]
    Timeout {
        /// The operation.
        what: &'static str,
        /// Who was waited for.
        peer: Peer,
        /// For how long.
        waited: Duration,
    },
    /// MPI was initialised twice in one process.
    #[error("MPI is initialised already")]
    Initialised,
    /// The MPI library can't be called from several threads.
    #[error("this MPI library was built without MPI_THREAD_MULTIPLE, which shardrun needs")]
    Threading,
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
    /// A message is too long for what carries it.
    #[error("{what}: {got} is too long, at most {expected}")]
    Length {
        /// The message.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What it may have.
        expected: usize,
    },
}
