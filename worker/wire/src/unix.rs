//! Unix sockets of one user's processes.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use crate::{Address, SocketError};

/// A socket's place in the file system; it goes with this.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: what another process has put there since stays.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}

/// Listens at `path`, this user's alone. A socket that a dead process left there is replaced.
pub(crate) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |source| bind_failed(path, source);
    check_folder(path)?;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_socket(path) => {
            if !left_by_the_dead(path) {
                return Err(SocketError::InUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(failed)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
    .map_err(failed)?;
    let identity = identity(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok((listener, file))
}

pub(crate) fn bind_failed(path: &Path, source: io::Error) -> SocketError {
    SocketError::Bind { address: Address::Unix(path.to_owned()), source }
}

/// Only the owner may enter the folder: a socket is open to all for a moment after it is made.
fn check_folder(path: &Path) -> Result<(), SocketError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let found = folder.metadata().map_err(|source| bind_failed(path, source))?;
    let (mode, owner, own) = (found.mode() & 0o7777, found.uid(), geteuid().as_raw());
    if mode & 0o077 != 0 || owner != own {
        return Err(SocketError::OpenFolder { folder: folder.to_owned(), mode, owner, own });
    }
    Ok(())
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
}

/// Removes the socket at `path` if nobody of this machine listens on it any more; says whether there is
/// none now. A path on a file system that several machines share may name a socket of another one, which
/// can't be told from a dead one.
#[must_use]
pub fn remove_dead_socket(path: &Path) -> bool {
    match path.symlink_metadata() {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(found) if found.file_type().is_socket() && left_by_the_dead(path) => {
            let removed = std::fs::remove_file(path);
            removed.is_ok() || !path.exists()
        }
        Ok(_) => false,
    }
}

/// Whether nobody listens on a socket any more.
fn left_by_the_dead(socket: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    UnixStream::connect(socket).is_err_and(refused)
}

/// The process at the other end of a stream, if it is this user's: its id, or 0 if it is in another
/// namespace of processes, which this one can't see into.
pub(crate) fn peer_process(stream: &UnixStream) -> Result<i32, SocketError> {
    let peer = getsockopt(stream, PeerCredentials).map_err(io::Error::from)?;
    let own = geteuid().as_raw();
    if peer.uid() != own {
        return Err(SocketError::Stranger { peer: peer.uid(), own });
    }
    Ok(peer.pid())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_of_the_dead_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, file) = (folder.path().join("socket"), folder.path().join("file"));
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(!remove_dead_socket(&socket) && socket.exists());
        drop(listener);
        assert!(remove_dead_socket(&socket) && !socket.exists());
        assert!(remove_dead_socket(&socket), "there is none, as when another was faster");
        std::fs::write(&file, "").unwrap();
        assert!(!remove_dead_socket(&file) && file.exists());
    }
}
