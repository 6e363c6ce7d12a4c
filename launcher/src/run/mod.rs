//! What a run leaves in its directory for the verbs that ask about it, on any node that sees it.
//!
//! `run.json` says what the run is and whose; `state.json` says how it is
//! doing and is replaced as a whole whenever that changes.

mod find;
mod job;
mod process;
mod record;
mod seen;
mod standing;
mod state;

pub(crate) use find::{Run, Runs};
pub(crate) use job::JobSays;
pub(crate) use record::RunRecord;
pub(crate) use seen::Seen;
pub(crate) use standing::{Standing, Supervisor};
pub(crate) use state::{Ended, Endpoint, RunStage, RunState, StateFile};

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
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
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The file of a run, or `None` if there is none.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what shardrun writes there", path.display()))?;
    Ok(Some(value))
}
