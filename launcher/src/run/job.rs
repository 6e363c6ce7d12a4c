//! What Slurm says of a run's job.

use shardrun_slurm::{JobInfo, Slurm, SlurmError};

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
}

impl JobSays {
    /// Asks for the job of one run.
    pub(crate) fn of(run: &Run, slurm: &Slurm) -> Self {
        let Some(job) = run.job() else { return Self::NoJob };
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
            let same = |info: &&JobInfo| {
                info.job.number() == job.number() && info.job.array_task() == job.array_task()
            };
            match &known {
                Ok(infos) => {
                    let info = infos.iter().find(same);
                    info.map_or(Self::Forgotten, |info| Self::Info(Box::new(info.clone())))
                }
                Err(why) => Self::Silent(why.clone()),
            }
        };
        runs.iter().map(says).collect()
    }

    pub(crate) fn info(&self) -> Option<&JobInfo> {
        match self {
            Self::Info(info) => Some(info),
            Self::NoJob | Self::Forgotten | Self::Silent(_) => None,
        }
    }

    /// Whether it is over for certain.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Info(info) => info.state.is_final(),
            Self::Forgotten => true,
            Self::NoJob | Self::Silent(_) => false,
        }
    }
}
