//! What can go wrong between an engine and its clients.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::frame::FrameError;

/// Why there is no connection, or none any more.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Others could reach the socket.
    #[error(
        "the folder {} has mode {mode:04o} and belongs to user {owner}: an engine's socket needs one of mode 0700 that belongs to user {own}",
        folder.display()
    )]
    OpenFolder {
        /// Where the socket should be.
        folder: PathBuf,
        /// The folder's mode.
        mode: u32,
        /// The folder's owner.
        owner: u32,
        /// This process's user.
        own: u32,
    },
    /// An engine listens there already.
    #[error("another process listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("can't listen on {}: {source}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket can't be reached.
    #[error("can't connect to the engine on {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The peer is another user's process.
    #[error("the peer is a process of user {peer}: only those of user {own} are taken")]
    Stranger {
        /// The peer's user.
        peer: u32,
        /// This process's user.
        own: u32,
    },
    /// The engine is of another version.
    #[error("the engine speaks version {theirs} of the protocol, this process version {ours}")]
    Version {
        /// The engine's.
        theirs: u32,
        /// This process's.
        ours: u32,
    },
    /// The peer sent what can't be read, or makes no sense where it came.
    #[error("bad frame: {reason}")]
    BadFrame {
        /// What is wrong with it.
        reason: String,
    },
    /// The peer gives no sign of life.
    #[error("the peer gave no sign of life for {} ms", after.as_millis())]
    Silent {
        /// For how long.
        after: Duration,
    },
    /// The engine ended the connection.
    #[error("the engine ended the connection: {reason}")]
    Closed {
        /// Why, as far as it said.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl SocketError {
    /// A message that was read and makes no sense.
    pub(super) fn nonsense(reason: impl Into<String>) -> Self {
        Self::BadFrame { reason: reason.into() }
    }
}

impl From<FrameError> for SocketError {
    fn from(error: FrameError) -> Self {
        Self::nonsense(error.to_string())
    }
}
