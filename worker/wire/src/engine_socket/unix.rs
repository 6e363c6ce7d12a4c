//! Unix sockets of one user's processes, within a Tokio runtime.

use std::path::Path;

use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::{Address, SocketError};

/// Connects to this user's socket at `path`.
pub(super) async fn connect(path: &Path) -> Result<(OwnedReadHalf, OwnedWriteHalf), SocketError> {
    let stream = UnixStream::connect(path).await.map_err(|source| SocketError::Connect {
        address: Address::Unix(path.to_owned()),
        source,
    })?;
    admit(stream)
}

/// The two halves of a stream, if the process at its other end is this user's.
pub(super) fn admit(stream: UnixStream) -> Result<(OwnedReadHalf, OwnedWriteHalf), SocketError> {
    let (peer, own) = (stream.peer_cred()?.uid(), geteuid().as_raw());
    if peer != own {
        return Err(SocketError::Stranger { peer, own });
    }
    Ok(stream.into_split())
}
