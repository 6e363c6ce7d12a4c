//! A locked folder in shared memory, for libraries that make segments of their own.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use crate::segment::try_lock;
use crate::{SHM_ROOT, ShmError};

/// A folder of mode 0700 under [`SHM_ROOT`], removed with all it holds when dropped. Open MPI puts
/// its segments there, which it would otherwise leave behind when killed.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl ScratchDir {
    /// Makes and locks the folder; a dead process's folder of the same name is replaced.
    ///
    /// # Errors
    /// [`ShmError::InUse`] if the name belongs to a running process.
    pub fn create(name: &str) -> Result<Self, ShmError> {
        let path = Path::new(SHM_ROOT).join(name);
        if !crate::sweep::remove_if_dead(&path)? {
            return Err(ShmError::InUse { path });
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| ShmError::io("create", &path, source))?;
        let lock = File::open(&path)
            .and_then(|dir| try_lock(dir).map_err(Into::into))
            .map_err(|source| ShmError::io("lock", &path, source))?
            .ok_or_else(|| ShmError::InUse { path: path.clone() })?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Already gone is as good: a supervisor may have been faster.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
