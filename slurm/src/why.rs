//! Why a job is as it is, in words. Pure: from what Slurm says of it, and from what else is known.
//!
//! A job's state alone often misleads. A batch script that was killed has the reason
//! `JobLaunchFailure`; a rank out of memory may leave its job `FAILED` with code 1; the reason of a job
//! that waited once may still stand there after it ended. So of a job that failed, what the logs say
//! counts first; that Slurm itself ended a job, for its time, a node or somebody's wish, is its own word.

mod alive;
mod clues;
mod ended;
mod limits;
mod pending;

use serde::Serialize;

use crate::{JobInfo, Partition, Phase, TimeLimit};

/// What is known beyond what Slurm says of the job. All of it may be missing.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The last lines of the job's output and of its ranks' logs, each log's in their order, the one
    /// of the batch script first. Of a job that was started several times, only what its last start
    /// wrote counts: leave out the rest.
    pub log_tail: Vec<String>,
    /// The cluster's partitions.
    pub partitions: Vec<Partition>,
    /// The present time, in seconds since 1970.
    pub now_unix_s: Option<u64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// One sentence, without a full stop.
    pub summary: String,
    /// What it is concluded from, and numbers; may be empty.
    pub details: Vec<String>,
    /// What to do, if there is something.
    pub advice: Option<String>,
}

impl Verdict {
    fn new(summary: String) -> Self {
        Self { summary, details: Vec::new(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// A detail that isn't there yet.
    fn detail(mut self, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        if !self.details.contains(&detail) {
            self.details.push(detail);
        }
        self
    }
}

/// Says why a job waits, runs or ended as it did.
#[must_use]
pub fn why(job: &JobInfo, facts: &Facts) -> Verdict {
    match job.state.phase() {
        Phase::Waiting => pending::verdict(job, facts),
        Phase::Final => ended::verdict(job, facts),
        Phase::Running | Phase::Stopped | Phase::Ending | Phase::Unknown => {
            alive::verdict(job, facts)
        }
    }
}

/// How often a job was requeued, if it was.
fn requeued(job: &JobInfo) -> Option<String> {
    match job.restarts? {
        0 => None,
        1 => Some("it was requeued once".to_owned()),
        restarts => Some(format!("it was requeued {restarts} times")),
    }
}

/// `SIGKILL` for 9.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let signal = nix::sys::signal::Signal::try_from(number);
    signal.map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

/// `00:01:58`.
fn clock(seconds: u64) -> String {
    TimeLimit::Limited(std::time::Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
