//! Where a run stands, put together from what it wrote, what Slurm says, and whether its supervisor runs.
//! Pure.

use serde::Serialize;
use shardrun_slurm::{JobId, JobInfo, Phase};

use super::job::JobSays;
use super::state::{RunStage, RunState};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Its job is in the queue.
    Waiting,
    Starting,
    Serving,
    Draining,
    /// Its last processes are ending.
    Ending,
    /// It ended, and said how.
    Ended,
    /// It is over, and could not say how.
    Killed,
    /// It is over, and never began.
    NeverStarted,
    /// Nobody here can say.
    Unknown,
}

/// What this machine says of a run's supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervisor {
    Runs,
    Gone,
    /// It is, or was, on another node.
    Elsewhere,
}

impl Standing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Killed => "killed",
            Self::NeverStarted => "never started",
            Self::Unknown => "unknown",
        }
    }

    /// It as the end of a sentence about the run.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Waiting => "waits in Slurm's queue",
            Self::Starting => "is starting",
            Self::Serving => "is serving",
            Self::Draining => "is draining",
            Self::Ending => "is ending",
            Self::Ended => "has ended",
            Self::Killed => "was killed",
            Self::NeverStarted => "never started",
            Self::Unknown => "can't be asked from here",
        }
    }

    /// Whether nothing of it runs or ever will.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Killed | Self::NeverStarted)
    }

    /// Of a run that left `state`, if any. `submitted` says whether its job is its own.
    pub(crate) fn of(
        submitted: bool,
        state: Option<&RunState>,
        job: &JobSays,
        supervisor: Supervisor,
    ) -> Self {
        match job {
            JobSays::Info(info) if submitted => of_job(info, state, supervisor),
            JobSays::Forgotten if submitted => over(state),
            // The supervisor can't outlive the allocation that it was started in by more than moments.
            job if job.is_over() && supervisor != Supervisor::Runs => over(state),
            JobSays::Silent(_) if submitted && state.is_none() => Self::Unknown,
            JobSays::Elsewhere { .. } if state.is_none() => Self::Unknown,
            _ => of_supervisor(state, supervisor),
        }
    }
}

fn of_job(info: &JobInfo, state: Option<&RunState>, supervisor: Supervisor) -> Standing {
    // Not what an earlier start of the job wrote, or the job that it follows.
    let own = |state: &&RunState| {
        let job = state.job.as_deref().and_then(|job| job.parse::<JobId>().ok());
        job.is_none_or(|job| job.is_same(&info.job))
            && info.restarts.is_none_or(|restarts| state.restarts >= restarts)
    };
    match info.state.phase() {
        Phase::Waiting => Standing::Waiting,
        Phase::Final => over(state),
        Phase::Ending => Standing::Ending,
        Phase::Running | Phase::Stopped | Phase::Unknown => match state.filter(own) {
            None => Standing::Starting,
            Some(state) if state.ended.is_some() || supervisor == Supervisor::Gone => {
                Standing::Ending
            }
            Some(state) => stage(state),
        },
    }
}

fn of_supervisor(state: Option<&RunState>, supervisor: Supervisor) -> Standing {
    match (state, supervisor) {
        (None, _) => Standing::NeverStarted,
        (Some(state), Supervisor::Runs) => stage(state),
        (Some(state), _) if state.ended.is_some() => Standing::Ended,
        (Some(_), Supervisor::Gone) => Standing::Killed,
        (Some(_), Supervisor::Elsewhere) => Standing::Unknown,
    }
}

fn over(state: Option<&RunState>) -> Standing {
    match state {
        None => Standing::NeverStarted,
        Some(state) if state.ended.is_some() => Standing::Ended,
        Some(_) => Standing::Killed,
    }
}

fn stage(state: &RunState) -> Standing {
    match state.stage {
        RunStage::Starting => Standing::Starting,
        RunStage::Serving => Standing::Serving,
        RunStage::Draining => Standing::Draining,
        // It has written its last word and is about to exit.
        RunStage::Ended => Standing::Ended,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_slurm::JobState;

    use super::*;
    use crate::run::Ended;

    fn state(stage: RunStage, restarts: u32) -> RunState {
        RunState {
            stage,
            since: 7,
            host: "n1".into(),
            pid: 1,
            job: None,
            restarts,
            endpoint: None,
            instances: Vec::new(),
            ended: (stage == RunStage::Ended).then_some(Ended { code: 0, message: None }),
        }
    }

    fn job(state: &str, restarts: Option<u32>) -> JobSays {
        let info = JobInfo::new(JobId::new(1), JobState::parse(state));
        JobSays::Info(Box::new(JobInfo { restarts, ..info }))
    }

    #[test]
    fn a_submitted_run_stands_as_its_job_does() {
        use Supervisor::{Elsewhere, Gone, Runs};
        let (serving, ended) = (state(RunStage::Serving, 0), state(RunStage::Ended, 0));
        let of = |state: Option<&RunState>, job: &JobSays, supervisor| {
            Standing::of(true, state, job, supervisor)
        };
        let running = job("RUNNING", Some(0));
        assert_eq!(of(None, &job("PENDING", None), Elsewhere), Standing::Waiting);
        assert_eq!(of(None, &running, Elsewhere), Standing::Starting);
        assert_eq!(of(Some(&serving), &running, Elsewhere), Standing::Serving);
        assert_eq!(of(Some(&serving), &running, Runs), Standing::Serving);
        assert_eq!(of(Some(&serving), &running, Gone), Standing::Ending);
        assert_eq!(of(Some(&ended), &running, Elsewhere), Standing::Ending);
        assert_eq!(of(Some(&ended), &job("COMPLETING", None), Elsewhere), Standing::Ending);
        assert_eq!(of(Some(&ended), &job("COMPLETED", None), Elsewhere), Standing::Ended);
        assert_eq!(of(Some(&serving), &job("NODE_FAIL", None), Elsewhere), Standing::Killed);
        assert_eq!(of(None, &job("CANCELLED", None), Elsewhere), Standing::NeverStarted);
        assert_eq!(of(Some(&serving), &JobSays::Forgotten, Elsewhere), Standing::Killed);
        assert_eq!(of(None, &JobSays::Silent("x".into()), Elsewhere), Standing::Unknown);
    }

    #[test]
    fn what_an_earlier_start_wrote_does_not_count() {
        let (first, second) = (state(RunStage::Ended, 0), state(RunStage::Serving, 1));
        let of = |state, job: &JobSays| Standing::of(true, Some(state), job, Supervisor::Elsewhere);
        assert_eq!(of(&first, &job("PENDING", Some(1))), Standing::Waiting);
        assert_eq!(of(&first, &job("RUNNING", Some(1))), Standing::Starting);
        assert_eq!(of(&second, &job("RUNNING", Some(1))), Standing::Serving);
    }

    #[test]
    fn what_the_job_before_wrote_does_not_count() {
        let of = |stage, job: &str, phase: &str| {
            let state = RunState { job: Some(job.into()), ..state(stage, 0) };
            Standing::of(true, Some(&state), &self::job(phase, Some(0)), Supervisor::Elsewhere)
        };
        for stage in [RunStage::Ended, RunStage::Serving] {
            assert_eq!(of(stage, "8", "PENDING"), Standing::Waiting);
            assert_eq!(of(stage, "8", "RUNNING"), Standing::Starting);
        }
        assert_eq!(of(RunStage::Serving, "1", "RUNNING"), Standing::Serving);
        assert_eq!(of(RunStage::Ended, "1", "RUNNING"), Standing::Ending);
    }

    #[test]
    fn nobody_here_knows_of_a_job_of_another_cluster() {
        let job = JobSays::Elsewhere { cluster: "west".into(), here: "east".into() };
        let (serving, ended) = (state(RunStage::Serving, 0), state(RunStage::Ended, 0));
        let of = |submitted, state| Standing::of(submitted, state, &job, Supervisor::Elsewhere);
        for submitted in [true, false] {
            assert_eq!(of(submitted, None), Standing::Unknown);
            assert_eq!(of(submitted, Some(&serving)), Standing::Unknown);
            assert_eq!(of(submitted, Some(&ended)), Standing::Ended);
        }
    }

    #[test]
    fn one_without_a_job_of_its_own_lives_as_long_as_its_supervisor() {
        let (serving, ended) = (state(RunStage::Serving, 0), state(RunStage::Ended, 0));
        let of = |state, job: &JobSays, supervisor| Standing::of(false, state, job, supervisor);
        for job in [JobSays::NoJob, job("RUNNING", None), JobSays::Silent("x".into())] {
            assert_eq!(of(Some(&serving), &job, Supervisor::Runs), Standing::Serving);
            assert_eq!(of(Some(&serving), &job, Supervisor::Gone), Standing::Killed);
            assert_eq!(of(Some(&serving), &job, Supervisor::Elsewhere), Standing::Unknown);
            assert_eq!(of(None, &job, Supervisor::Gone), Standing::NeverStarted);
            assert_eq!(of(Some(&ended), &job, Supervisor::Elsewhere), Standing::Ended);
        }
        // Its allocation is gone, and it with that.
        assert_eq!(
            of(Some(&serving), &job("COMPLETED", None), Supervisor::Elsewhere),
            Standing::Killed
        );
    }
}
