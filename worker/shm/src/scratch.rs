//! A locked folder in shared memory, for libraries that make segments of their own.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, RenameFlags, renameat2};

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
    /// [`ShmError::InUse`] if the name belongs to a running process, [`ShmError::Io`] if the system
    /// refuses.
    pub fn create(name: &str) -> Result<Self, ShmError> {
        let path = Path::new(SHM_ROOT).join(name);
        if !crate::sweep::remove_if_dead(&path)? {
            return Err(ShmError::InUse { path });
        }
        // A sweep takes an unlocked folder of its form for a dead process's: it gets its name locked.
        let unnamed = Path::new(SHM_ROOT).join(format!("{name}.{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&unnamed)
            .map_err(|source| ShmError::io("create", &unnamed, source))?;
        let made = File::open(&unnamed)
            .and_then(|dir| try_lock(dir).map_err(Into::into))
            .map_err(|source| ShmError::io("lock", &unnamed, source))
            .and_then(|lock| lock.ok_or_else(|| ShmError::InUse { path: unnamed.clone() }))
            .and_then(|lock| Ok((rename_to_free(&unnamed, &path)?, lock)));
        match made {
            Ok(((), lock)) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                let _ = std::fs::remove_dir(&unnamed);
                Err(error)
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Gives a folder a name that nothing else has.
fn rename_to_free(from: &Path, to: &Path) -> Result<(), ShmError> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => Err(ShmError::InUse { path: to.to_owned() }),
        Err(errno) => Err(ShmError::io("rename to", to, errno)),
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Already gone is as good: a supervisor may have been faster.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
