//! What can go wrong between two processes.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::Address;
use crate::frame::FrameError;

/// Why there is no connection, or none any more.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Others could reach the socket.
    #[error(
        "the folder {} has mode {mode:04o} and belongs to user {owner}: a socket needs one of mode 0700 that belongs to user {own}",
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
    /// A process listens there already.
    #[error("another process listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// Where; the port is 0 if any would have done.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The socket can't be reached.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// Where.
        address: Address,
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
    /// What goes over TCP needs the run's secret.
    #[error("{address} can't be dialled without the run's secret")]
    NoSecret {
        /// Where.
        address: Address,
    },
    /// The peer knows another secret, or none.
    #[error(
        "{peer} has another secret than this process: it belongs to another run, or is no part of \
         any"
    )]
    WrongSecret {
        /// The peer.
        peer: Address,
    },
    /// The peer didn't show in time that it knows the secret.
    #[error("{peer} was not recognised as a process of this run: {reason}")]
    Unrecognised {
        /// The peer.
        peer: Address,
        /// Why.
        reason: String,
    },
    /// The watcher doesn't want this connection.
    #[error("{address} refused the connection: {reason}")]
    Refused {
        /// The watcher.
        address: Address,
        /// Why, as it said.
        reason: String,
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
    pub(crate) fn nonsense(reason: impl Into<String>) -> Self {
        Self::BadFrame { reason: reason.into() }
    }
}

impl From<FrameError> for SocketError {
    fn from(error: FrameError) -> Self {
        Self::nonsense(error.to_string())
    }
}
