//! What a run is.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shardrun_config::RunDir;
use shardrun_slurm::JobId;

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
    /// What sbatch was told beside the script, and is told again for a job that follows.
    #[serde(default)]
    pub(crate) sbatch_args: Vec<String>,
    /// How many jobs have followed the first.
    #[serde(default)]
    pub(crate) successors: u32,
    /// The Slurm cluster of that job, if anyone said so: others that share the home have jobs of the same
    /// numbers.
    #[serde(default)]
    pub(crate) cluster: Option<String>,
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
            sbatch_args: Vec::new(),
            successors: 0,
            cluster: None,
        }
    }

    /// The same, its job being one of this cluster.
    pub(crate) fn on_cluster(self, cluster: Option<String>) -> Self {
        Self { cluster, ..self }
    }

    const FILE: &str = "run.json";

    /// The record of the run in `dir`, which is one.
    pub(crate) fn of_run(dir: &Path) -> anyhow::Result<Self> {
        Self::read(dir)?.with_context(|| format!("{} has no {}", dir.display(), Self::FILE))
    }

    /// Says that the run in `dir` is `job`'s from now on: the one that it was submitted as, or one that
    /// follows it. Gives what the record then is.
    pub(crate) fn hand_to(dir: &Path, job: &JobId) -> anyhow::Result<Self> {
        let before = Self::of_run(dir)?;
        let known = before.job.as_deref().and_then(|known| known.parse::<JobId>().ok());
        let same = known.as_ref().is_some_and(|known| known.is_same(job));
        // The job itself doesn't know what sbatch calls its cluster.
        let named = known.as_ref().filter(|known| same && known.cluster().is_some()).unwrap_or(job);
        let successors = before.successors + u32::from(known.is_some() && !same);
        let record = Self { job: Some(named.to_string()), successors, ..before.clone() };
        if record != before {
            record.write(dir)?;
        }
        Ok(record)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_handed_from_job_to_job() {
        let folder = tempfile::tempdir().unwrap();
        let record = RunRecord {
            id: "i".into(),
            name: "d".into(),
            uid: 1,
            created: 1,
            shm_prefix: String::new(),
            job: None,
            sbatch_args: vec!["-p".into(), "gpu".into()],
            successors: 0,
            cluster: None,
        };
        record.write(folder.path()).unwrap();
        let hand_to = |job: &str| {
            let record = RunRecord::hand_to(folder.path(), &job.parse().unwrap()).unwrap();
            assert_eq!(RunRecord::read(folder.path()).unwrap().as_ref(), Some(&record));
            assert_eq!(record.sbatch_args, ["-p", "gpu"]);
            (record.job.unwrap(), record.successors)
        };
        // Submitted, and started; which of the two is written first is chance.
        assert_eq!(hand_to("7"), ("7".to_owned(), 0));
        assert_eq!(hand_to("7;west"), ("7;west".to_owned(), 0));
        assert_eq!(hand_to("7"), ("7;west".to_owned(), 0));
        // Followed.
        assert_eq!(hand_to("9;west"), ("9;west".to_owned(), 1));
        assert_eq!(hand_to("12"), ("12".to_owned(), 2));
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let text = r#"{"id":"i","name":"d","uid":1,"created":2,"shm_prefix":"","job":"7"}"#;
        let record: RunRecord = serde_json::from_str(text).unwrap();
        assert_eq!((record.sbatch_args, record.successors), (Vec::<String>::new(), 0));
    }
}
