//! A run with all that can be seen of it from here.

use anyhow::bail;
use shardrun_slurm::{Phase, Slurm};

use super::find::Run;
use super::job::JobSays;
use super::process;
use super::standing::{Standing, Supervisor};
use super::state::RunState;
use crate::{nodes, programs};

/// A run, what it wrote of itself, and what others say.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) run: Run,
    pub(crate) state: Option<RunState>,
    /// Why what it wrote of itself can't be read, if there is something and it can't.
    pub(crate) unreadable: Option<String>,
    pub(crate) job: JobSays,
    pub(crate) supervisor: Supervisor,
    pub(crate) standing: Standing,
}

impl Seen {
    /// Looks at a run, and asks Slurm for its job.
    pub(crate) fn look(run: Run, slurm: &Slurm) -> anyhow::Result<Self> {
        let job = JobSays::of(&run, slurm);
        Self::with_job(run, job)
    }

    /// Looks at a run whose job was asked for.
    pub(crate) fn with_job(run: Run, job: JobSays) -> anyhow::Result<Self> {
        let (state, unreadable) = match RunState::read(&run.dir) {
            Ok(state) => (state, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let supervisor = match &job {
            // Names of nodes, too, may be the same there.
            JobSays::Elsewhere { .. } => Supervisor::Elsewhere,
            _ => supervisor(&run, state.as_ref())?,
        };
        let standing = Standing::of(run.is_submitted(), state.as_ref(), &job, supervisor);
        let standing = match standing {
            // What has written something did start.
            Standing::NeverStarted if unreadable.is_some() && job.is_over() => Standing::Killed,
            Standing::NeverStarted if unreadable.is_some() => Standing::Unknown,
            standing => standing,
        };
        Ok(Self { run, state, unreadable, job, supervisor, standing })
    }

    /// # Errors
    /// If its job is another cluster's, and so nothing that can be ended from here.
    pub(crate) fn check_here(&self) -> anyhow::Result<()> {
        match (&self.job, self.note()) {
            (JobSays::Elsewhere { .. }, Some(note)) => bail!("{}: {note}", self.run.label()),
            _ => Ok(()),
        }
    }

    /// What must be said so that its standing isn't misread.
    pub(crate) fn note(&self) -> Option<String> {
        let job = || self.run.record.job.as_deref().unwrap_or("?");
        if let JobSays::Elsewhere { cluster, here } = &self.job {
            return Some(format!(
                "its job {} is one of the cluster {cluster}, and this machine's is {here}: ask on a \
                 machine of {cluster}",
                job()
            ));
        }
        if let Some(why) = &self.unreadable {
            return Some(match self.standing.is_over() {
                true => format!("{why}; its job {} is over", job()),
                false => format!("how it is doing can't be told: {why}"),
            });
        }
        match (self.standing, &self.job, &self.state) {
            (Standing::Killed, _, Some(state)) => Some(format!(
                "it was {} when its supervisor, process {} on {}, ended without a word: it was killed, or \
                 its node failed",
                state.stage.as_str(),
                state.pid,
                state.host
            )),
            (Standing::NeverStarted, JobSays::NoJob, _) => {
                Some("its supervisor ended before it had begun".to_owned())
            }
            (Standing::NeverStarted, ..) => Some(format!("its job {} is over", job())),
            (Standing::Unknown, _, Some(state)) => Some(format!(
                "it says that it is {}, and only on {} can be seen whether its supervisor, process {}, \
                 still runs",
                state.stage.as_str(),
                state.host,
                state.pid
            )),
            (_, JobSays::Silent(why), _) => {
                Some(format!("Slurm can't be asked about job {}: {why}", job()))
            }
            (standing, JobSays::Info(info), _)
                if !standing.is_over() && info.state.phase() == Phase::Stopped =>
            {
                Some(format!("its job is {}: nothing of it moves", info.state))
            }
            _ => None,
        }
    }

    /// Since when it stands so, if it says, in seconds since 1970.
    pub(crate) fn since(&self) -> Option<u64> {
        let info = self.job.info();
        match self.standing {
            Standing::Waiting => info.and_then(|info| info.submit_unix_s),
            Standing::Starting if self.state.is_none() => info.and_then(|info| info.start_unix_s),
            Standing::Killed | Standing::NeverStarted => info.and_then(|info| info.end_unix_s),
            _ => self.state.as_ref().map(|state| state.since),
        }
    }

    /// The ranks that its supervisor last knew of and that run on this machine.
    pub(crate) fn ranks_here(&self) -> anyhow::Result<Vec<(u32, i32)>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let host = nodes::host()?;
        let written = RunState::written_at(&self.run.dir);
        let ranks = state.instances.iter().flat_map(|instance| &instance.ranks);
        let here = ranks.filter(|rank| {
            rank.host == host && process::rank_runs(rank.pid, self.run.record.uid, written)
        });
        Ok(here.map(|rank| (rank.rank, rank.pid)).collect())
    }
}

fn supervisor(run: &Run, state: Option<&RunState>) -> anyhow::Result<Supervisor> {
    let Some(state) = state else { return Ok(Supervisor::Gone) };
    if state.host != nodes::host()? {
        return Ok(Supervisor::Elsewhere);
    }
    let runs = process::runs(state.pid.into(), programs::SHARDRUN, run.record.uid, state.since);
    Ok(if runs { Supervisor::Runs } else { Supervisor::Gone })
}
