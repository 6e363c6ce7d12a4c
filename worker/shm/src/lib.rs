//! Shared memory of a deployment: segments with a checked header, their names, the lock that says
//! who is alive, futexes, and the removal of what the dead left behind.
//!
//! Every name begins with `{prefix}{rank}_`, every segment is its owner's alone (mode 0600), and a
//! segment is in use exactly as long as its creator holds the lock on it: a pid could be anyone's
//! by now, a lock can't.

mod futex;
mod scratch;
mod segment;
mod sweep;

use std::path::PathBuf;

use thiserror::Error;

pub use futex::{futex_wait, futex_wake_all};
pub use scratch::ScratchDir;
pub use segment::Segment;
pub use sweep::{abandoned, remove_all, sweep};

/// Where POSIX shared memory is mounted.
pub const SHM_ROOT: &str = "/dev/shm";

/// The beginning of all names of one rank.
#[must_use]
pub fn rank_prefix(prefix: &str, rank: usize) -> String {
    format!("{prefix}{rank}_")
}

/// What can go wrong with a segment.
#[derive(Debug, Error)]
pub enum ShmError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Somebody alive uses the name.
    #[error("{} is in use by a running process; choose another run.shm_prefix", path.display())]
    InUse {
        /// The segment.
        path: PathBuf,
    },
    /// The file is not such a segment.
    #[error("{} is not what was expected: {what} is {got}, expected {expected}", path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What it is.
        got: u64,
        /// What it should be.
        expected: u64,
    },
}

impl ShmError {
    fn io(action: &'static str, path: &std::path::Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
