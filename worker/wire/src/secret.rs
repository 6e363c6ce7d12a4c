//! What the processes of one run know, and nobody else.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const LEN: usize = 32;

/// A run's 32 random bytes: the key by which its processes know each other over TCP.
///
/// It is never shown. Serde writes it as it is, so it must go only where the run's own processes
/// read, as in a broadcast over MPI.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u8; LEN]);

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The system gives no random bytes.
    #[error("no random bytes for the run's secret: {0}")]
    NoRandomness(#[source] getrandom::Error),
    /// The file can't be made or written.
    #[error("can't write the run's secret to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be read.
    #[error("can't read the run's secret from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have written or read the file.
    #[error(
        "the run's secret {} has mode {mode:06o} and belongs to user {owner}: it must be a regular \
         file of mode 0600 that belongs to user {own}",
        path.display()
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its mode, with the bits that say what kind of file it is.
        mode: u32,
        /// Its owner.
        owner: u32,
        /// This process's user.
        own: u32,
    },
    /// The file holds something else.
    #[error("the run's secret {} has {len} bytes: it must have {LEN}", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
}

impl Secret {
    /// A new run's secret.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn generate() -> Result<Self, SecretError> {
        let mut bytes = [0; LEN];
        getrandom::fill(&mut bytes).map_err(SecretError::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Writes it to a new file of mode 0600.
    ///
    /// # Errors
    /// [`SecretError::Write`], also if there is a file already.
    pub fn write_to(&self, path: &Path) -> Result<(), SecretError> {
        let failed = |source| SecretError::Write { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        // Other nodes read it from a shared file system.
        file.write_all(&self.0).and_then(|()| file.sync_all()).map_err(|source| {
            let _ = std::fs::remove_file(path);
            failed(source)
        })
    }

    /// Reads it from a file that is nobody else's.
    ///
    /// # Errors
    /// [`SecretError::NotPrivate`] if it is no regular file, or not this user's alone,
    /// [`SecretError::WrongLength`] or [`SecretError::Read`].
    pub fn read_from(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        // Neither through a link nor waiting for a pipe's other end.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let link = path.symlink_metadata().map_err(failed)?;
                return Err(not_private(path, &link));
            }
            Err(error) => return Err(failed(error)),
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() || found.mode() & 0o077 != 0 || found.uid() != geteuid().as_raw() {
            return Err(not_private(path, &found));
        }
        if found.len() != LEN as u64 {
            return Err(SecretError::WrongLength { path: path.to_owned(), len: found.len() });
        }
        let mut bytes = [0; LEN];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

fn not_private(path: &Path, found: &Metadata) -> SecretError {
    let (mode, owner, own) = (found.mode(), found.uid(), geteuid().as_raw());
    SecretError::NotPrivate { path: path.to_owned(), mode, owner, own }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
