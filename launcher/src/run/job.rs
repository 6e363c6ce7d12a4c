//! What Slurm says of a run's job.

use shardrun_slurm::{JobId, JobInfo, Listed, Slurm, SlurmError};

use super::Run;

/// What is known of a run's job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobSays {
    /// It has none.
    NoJob,
    /// What Slurm knows of it.
    Info(Box<JobInfo>),
    /// Slurm doesn't know it any more, so it is over.
    Forgotten,
    /// Slurm can't be asked, and why.
    Silent(String),
    /// It is a job of another cluster than this machine's, `here`, which has others of the same number.
    Elsewhere { cluster: String, here: String },
}

impl JobSays {
    /// Asks for the job of one run.
    pub(crate) fn of(run: &Run, slurm: &Slurm) -> Self {
        let Some(job) = run.job() else { return Self::NoJob };
        if let Some(elsewhere) = Self::elsewhere(run, &job, slurm) {
            return elsewhere;
        }
        match slurm.show(&job) {
            Ok(info) => Self::Info(Box::new(info)),
            Err(SlurmError::UnknownJob { .. }) => Self::Forgotten,
            Err(error) => Self::Silent(error.to_string()),
        }
    }

    /// Asks for the jobs of several runs of one user at once.
    pub(crate) fn of_all(runs: &[Run], user: &str, slurm: &Slurm) -> Vec<Self> {
        if runs.iter().all(|run| run.job().is_none()) {
            return vec![Self::NoJob; runs.len()];
        }
        let known = slurm.list(user).map_err(|error| error.to_string());
        let says = |run: &Run| {
            let Some(job) = run.job() else { return Self::NoJob };
            if let Some(elsewhere) = Self::elsewhere(run, &job, slurm) {
                return elsewhere;
            }
            let same = |info: &&JobInfo| {
                info.job.number() == job.number() && info.job.array_task() == job.array_task()
            };
            match &known {
                // The list is of this machine's cluster.
                _ if job.cluster().is_some() => Self::of(run, slurm),
                Ok(Listed { jobs, unread }) => match jobs.iter().find(same) {
                    Some(info) => Self::Info(Box::new(info.clone())),
                    None if unread.is_empty() => Self::Forgotten,
                    // It may be among those.
                    None => Self::of(run, slurm),
                },
                Err(why) => Self::Silent(why.clone()),
            }
        };
        runs.iter().map(says).collect()
    }

    /// Of a run whose job is another cluster's. One that names its cluster is asked for there.
    fn elsewhere(run: &Run, job: &JobId, slurm: &Slurm) -> Option<Self> {
        let cluster = run.record.cluster.as_ref().filter(|_| job.cluster().is_none())?;
        let here = slurm.cluster_name().ok().filter(|here| here != cluster)?;
        Some(Self::Elsewhere { cluster: cluster.clone(), here })
    }

    pub(crate) fn info(&self) -> Option<&JobInfo> {
        match self {
            Self::Info(info) => Some(info),
            Self::NoJob | Self::Forgotten | Self::Silent(_) | Self::Elsewhere { .. } => None,
        }
    }

    /// Whether it is over for certain.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Info(info) => info.state.is_final(),
            Self::Forgotten => true,
            Self::NoJob | Self::Silent(_) | Self::Elsewhere { .. } => false,
        }
    }
}
