//! What a run is.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shardrun_config::RunDir;

use crate::clock::now_unix_s;

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The run's id, the end of its directory's name.
    pub(crate) id: String,
    /// The deployment's name.
    pub(crate) name: String,
    /// The user.
    pub(crate) uid: u32,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// What shared-memory names begin with.
    pub(crate) shm_prefix: String,
    /// The Slurm job that it was submitted as, or was started in.
    #[serde(default)]
    pub(crate) job: Option<String>,
}

impl RunRecord {
    /// The record of a run that was just made.
    pub(crate) fn of(run: &RunDir, uid: u32, job: Option<String>) -> Self {
        let prefix = run.deployment.run.shm_prefix.as_ref();
        Self {
            id: run.id.to_string(),
            name: run.deployment.name.clone(),
            uid,
            created: now_unix_s(),
            shm_prefix: prefix.map_or_else(String::new, ToString::to_string),
            job,
        }
    }

    const FILE: &str = "run.json";

    /// Says that the run in `dir` is `job`'s from now on: the one that it was submitted as, or a successor.
    pub(crate) fn hand_to(dir: &Path, job: &str) -> anyhow::Result<()> {
        let record = Self::read(dir)?;
        let record = record.with_context(|| format!("{} has no {}", dir.display(), Self::FILE))?;
        Self { job: Some(job.to_owned()), ..record }.write(dir)
    }

    /// Writes it into a run's directory.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        super::replace(&dir.join(Self::FILE), self)
    }

    /// A run's record; `None` where there is none, so no run.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        super::read(&dir.join(Self::FILE))
    }
}
