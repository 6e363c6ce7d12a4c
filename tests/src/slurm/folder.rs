//! The folder of a cluster: the file system that all its machines share.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

use super::options::ClusterOptions;
use super::user::User;
use crate::programs::programs;

/// The folder of a cluster. It has the same path on this machine and on the cluster's.
#[derive(Debug)]
pub(super) struct Folder {
    root: TempDir,
    /// What machines see there of this one: the source, and the path in the folder.
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl Folder {
    /// Makes it, with homes, device files and places for what is mounted.
    pub(super) fn create(options: &ClusterOptions) -> anyhow::Result<Self> {
        // A short path: the name of a Unix socket in it has some 100 bytes.
        let root = tempfile::Builder::new()
            .prefix("shardrun-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .context("cannot make a folder for a cluster")?;
        let mut folder = Self { root, mounts: Vec::new() };
        for name in ["dev", "etc", "home", "log", "run", "shared", "spool", "state"] {
            folder.make(name, 0o755)?;
        }
        for user in User::ALL {
            let home = folder.make(&format!("home/{}", user.name()), 0o700)?;
            chown(&home, Some(user.uid()), Some(user.uid()))?;
        }
        for gpu in 0..options.gpus {
            // The number of /dev/null.
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&folder.path(&format!("dev/gpu{gpu}")), SFlag::S_IFCHR, mode, makedev(1, 3))?;
        }
        folder.mount("programs", programs()?)?;
        for (name, source) in &options.shared {
            folder.mount(&format!("shared/{name}"), source.clone())?;
        }
        Ok(folder)
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(super) fn home(&self, user: User) -> PathBuf {
        self.path("home").join(user.name())
    }

    pub(super) fn mounts(&self) -> &[(PathBuf, PathBuf)] {
        &self.mounts
    }

    fn make(&self, name: &str, mode: u32) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Makes a place for `source`; machines mount it there.
    fn mount(&mut self, name: &str, source: PathBuf) -> anyhow::Result<()> {
        ensure!(source.exists(), "{} is to be shared and isn't there", source.display());
        let target = self.path(name);
        if source.is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::write(&target, "")?;
        }
        self.mounts.push((source.canonicalize()?, target));
        Ok(())
    }

    /// Writes a file of root's into `etc`.
    pub(super) fn write_etc(&self, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        let path = self.path("etc").join(name);
        fs::write(&path, bytes)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }
}
