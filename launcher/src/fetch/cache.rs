//! The cache folder: one folder a digest, with the file, a record that it was checked, and a lock.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shardrun_config::Sha256;
use tempfile::TempDir;

use super::error::{FetchError, IoContext as _};
use super::wheel;
use crate::progress::Progress;

/// Folders that downloads work in begin with this.
const WORK_PREFIX: &str = "fetch-";

/// Where one fetched file is kept.
pub(super) struct CacheEntry<'a> {
    /// The file.
    pub(super) path: PathBuf,
    /// Its digest.
    pub(super) sha256: &'a Sha256,
}

/// What the file looked like when its digest was last computed.
#[derive(Serialize, Deserialize, PartialEq)]
struct Record {
    sha256: Sha256,
    size_bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// The right to write to an entry's folder, until dropped.
pub(super) struct Locked {
    folder: PathBuf,
    _lock: File,
}

impl CacheEntry<'_> {
    /// The file's size, if it is there and unchanged since it was checked.
    pub(super) fn verified_size(&self) -> Option<u64> {
        let record: Record =
            serde_json::from_slice(&std::fs::read(self.record_path()).ok()?).ok()?;
        let now = self.present()?;
        (record == now).then_some(now.size_bytes)
    }

    /// Hashes a file that has no valid record. One that is right gets a record, one that is wrong
    /// is removed; says whether the file may be used.
    pub(super) fn verify(&self, progress: &mut dyn Progress) -> Result<bool, FetchError> {
        if !self.path.exists() {
            return Ok(false);
        }
        if wheel::sha256_of(&self.path, progress)? == *self.sha256 {
            self.record()?;
            return Ok(true);
        }
        std::fs::remove_file(&self.path).doing("remove the damaged model", &self.path)?;
        Ok(false)
    }

    /// Notes that the file as it is now has been checked.
    pub(super) fn record(&self) -> Result<(), FetchError> {
        let path = self.record_path();
        let Some(record) = self.present() else { return Ok(()) };
        let text = serde_json::to_vec(&record).map_err(std::io::Error::from);
        // Written aside, so that a reader sees all of it or the old one.
        let aside = beside(&path, "new");
        text.and_then(|text| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&aside)?.write_all(&text)?;
            std::fs::rename(&aside, &path)
        })
        .doing("write", &path)
    }

    /// Makes the folder and locks it, waiting for another launch that has it. The lock ends with
    /// the process that holds it.
    pub(super) fn lock(&self, progress: &mut dyn Progress) -> Result<Locked, FetchError> {
        let folder = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        let make = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        make.doing("make the cache folder", &folder)?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).doing("open", &path)?;
        let mut waiting = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waiting => sleep(Duration::from_millis(200)),
                Err(TryLockError::WouldBlock) => {
                    let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                    progress.begin(&format!("waiting for another launch that fetches {name}"));
                    waiting = true;
                }
                Err(TryLockError::Error(error)) => Err(error).doing("lock", &path)?,
            }
        }
        if waiting {
            progress.end();
        }
        Ok(Locked { folder, _lock: lock })
    }

    fn record_path(&self) -> PathBuf {
        beside(&self.path, "checked")
    }

    fn present(&self) -> Option<Record> {
        let meta = self.path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some(Record {
            sha256: self.sha256.clone(),
            size_bytes: meta.len(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        })
    }
}

/// `path` with a dot and `ending` added.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

impl Locked {
    /// A folder to download in, on the cache's file system; removed when dropped. What killed
    /// launches left of theirs goes first.
    pub(super) fn work_folder(&self) -> Result<TempDir, FetchError> {
        let entries = self.folder.read_dir().doing("list", &self.folder)?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
                // A pip that outlived its launch may still write there: the next launch sweeps.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let made = tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(&self.folder);
        made.doing("make a folder in", &self.folder)
    }
}
