//! Why a job that has its nodes is as it is.

use super::clues::clues;
use super::{Facts, Verdict, clock, requeued};
use crate::{JobInfo, JobState, Phase};

pub(super) fn verdict(job: &JobInfo, facts: &Facts) -> Verdict {
    let id = &job.job;
    let nodes = job.nodes.as_deref().map_or(String::new(), |nodes| format!(" on {nodes}"));
    let mut verdict = Verdict::new(match (&job.state, job.state.phase()) {
        (JobState::Running, _) if job.reason.as_deref() == Some("Prolog") => {
            format!("job {id} has its nodes{nodes}, and Slurm is making them ready")
        }
        (JobState::Resizing, _) => format!("job {id} is changing its size{nodes}"),
        (JobState::Suspended, _) => {
            format!("job {id} is suspended{nodes}: its processes stand still")
        }
        (JobState::Stopped, _) => {
            format!("job {id} was stopped by a signal{nodes}: its processes stand still")
        }
        (JobState::LaunchFailed, _) => format!("Slurm could not start job {id}{nodes}"),
        (_, Phase::Running) => format!("job {id} runs{nodes}"),
        (_, Phase::Ending) => format!("job {id} is ending{nodes}: some of its processes still run"),
        (state, _) => format!("job {id} is in the state {state}, which shardrun does not know"),
    });
    match job.state {
        JobState::Suspended => {
            verdict = verdict.advise(format!("scontrol resume {id} lets it go on, if you may"));
        }
        JobState::Stopped => {
            verdict = verdict.advise(format!("scancel --signal=CONT --full {id} lets it go on"));
        }
        _ => {}
    }
    if let (Phase::Running | Phase::Stopped, Some(now)) = (job.state.phase(), facts.now_unix_s) {
        if let Some(start) = job.start_unix_s.filter(|&start| start <= now) {
            verdict = verdict.detail(format!("it started {} ago", clock(now - start)));
        }
        if let Some(end) = job.end_unix_s.filter(|&end| end > now) {
            verdict = verdict.detail(format!("its time is up in {}", clock(end - now)));
        }
    }
    // A step may be lost while the job goes on.
    let found = clues(&facts.log_tail);
    let said = found.iter().map(|found| format!("its log says: {}", found.line));
    requeued(job).into_iter().chain(said).fold(verdict, Verdict::detail)
}
