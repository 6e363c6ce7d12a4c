//! What a run leaves in its directory for the verbs that ask about it, on any node that sees it.
//!
//! `run.json` says what the run is and whose; `state.json` says how it is doing and is replaced as a whole
//! whenever that changes. Folders of runs may be shared by many users, so whose a run is, is what the file
//! system says of its owner, not what its files do.

mod find;
mod job;
mod process;
mod record;
mod seen;
mod standing;
mod state;

use find::user_name;
pub(crate) use find::{Run, Runs};
pub(crate) use job::JobSays;
pub(crate) use record::RunRecord;
pub(crate) use seen::Seen;
pub(crate) use standing::{Standing, Supervisor};
pub(crate) use state::{Ended, Endpoint, RunStage, RunState, StateFile};

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use serde::Serialize;

/// Replaces a file of the run as a whole: who reads it sees the old one or the new one.
fn replace(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        // The job and who submits it may write at once.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        // A name that is there before what it names would be an empty file after a power cut.
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Nothing that shardrun writes comes near it.
const LONGEST: u64 = 16 << 20;

/// The file of a run, or `None` if there is none.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match read_own(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what shardrun writes there", path.display()))?;
    Ok(Some(value))
}

/// The text of a file, if it is a file of whoever owns its directory.
fn read_own(path: &Path) -> anyhow::Result<String> {
    let owner = owner(path.parent().context("it is in no directory")?)?;
    // A pipe must not keep anyone waiting.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        bail!("it is no regular file");
    }
    if meta.uid() != owner {
        bail!("it is {}'s, and its directory {}'s", user_name(meta.uid()), user_name(owner));
    }
    if meta.len() > LONGEST {
        bail!("it has {} bytes, and at most {LONGEST} are read", meta.len());
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Who owns a run's directory.
fn owner(dir: &Path) -> anyhow::Result<u32> {
    let meta = dir.symlink_metadata()?;
    if meta.is_symlink() {
        bail!("{} is a symbolic link; name the directory that it leads to", dir.display());
    }
    Ok(meta.uid())
}

fn is_missing(error: &anyhow::Error) -> bool {
    let missing = [ErrorKind::NotFound, ErrorKind::NotADirectory];
    error.downcast_ref::<std::io::Error>().is_some_and(|error| missing.contains(&error.kind()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(path: &Path) -> anyhow::Result<Option<u32>> {
        super::read(path)
    }

    #[test]
    fn only_files_of_the_directorys_owner_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run.json");
        assert_eq!(read(&file).unwrap(), None);
        replace(&file, &7).unwrap();
        assert_eq!(read(&file).unwrap(), Some(7));

        let link = dir.path().join("state.json");
        symlink(&file, &link).unwrap();
        assert!(read(&link).is_err(), "a link to a file");
        let folder = dir.path().join("link");
        symlink(dir.path(), &folder).unwrap();
        let error = format!("{:#}", read(&folder.join("run.json")).unwrap_err());
        assert!(error.contains("link is a symbolic link; name the directory"), "{error}");

        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(format!("{:#}", read(&pipe).unwrap_err()).contains("no regular file"));

        if !nix::unistd::getuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        nix::unistd::chown(&file, Some(4_000_001.into()), None).unwrap();
        let error = format!("{:#}", read(&file).unwrap_err());
        assert!(error.contains("it is the user with id 4000001's, and its directory "), "{error}");
    }
}
