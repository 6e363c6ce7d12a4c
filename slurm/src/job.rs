//! A job as Slurm describes it.

mod id;

use serde::Serialize;

pub use id::JobId;

use crate::{JobState, Memory, SlurmError, TimeLimit, hostlist};

/// What is known of a job. What Slurm didn't say is `None`; times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobInfo {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Who submitted it.
    pub user: Option<String>,
    /// The account that it counts against.
    pub account: Option<String>,
    /// Its quality of service.
    pub qos: Option<String>,
    /// The partitions that it may run in, or runs in.
    pub partition: Option<String>,
    /// What it is doing.
    pub state: JobState,
    /// Why it is in that state, in Slurm's word; of a job that has ended it may be an old one.
    pub reason: Option<String>,
    /// Its nodes, as a host list.
    pub nodes: Option<String>,
    /// How many nodes it has or asked for.
    pub num_nodes: Option<u32>,
    /// The node that the batch script runs on.
    pub batch_host: Option<String>,
    /// How long it may run.
    pub time_limit: Option<TimeLimit>,
    /// When it was submitted, or requeued last.
    pub submit_unix_s: Option<u64>,
    /// When it started, or is expected to.
    pub start_unix_s: Option<u64>,
    /// When it ended, or must end.
    pub end_unix_s: Option<u64>,
    /// When it was told that others need its nodes.
    pub preempt_unix_s: Option<u64>,
    /// How its batch script ended.
    pub exit: Option<Exit>,
    /// How often it was requeued.
    pub restarts: Option<u32>,
    /// Whether Slurm may requeue it.
    pub requeue: Option<bool>,
    /// Where its output goes.
    pub stdout: Option<String>,
    /// The folder that it was submitted from.
    pub work_dir: Option<String>,
    /// The memory that it asked for.
    pub memory: Option<Memory>,
    /// What it was given in all: `cpu=4,mem=1000M,node=2,billing=4,gres/gpu=2`.
    pub tres: Option<String>,
    /// What else it has on each node: `gres:gpu:1`.
    pub tres_per_node: Option<String>,
    /// What it waits for: `afterok:3(failed)`.
    pub dependency: Option<String>,
    /// The most memory that any of its processes' steps had, in bytes; from the accounting only.
    pub max_rss_bytes: Option<u64>,
    /// Its steps that ran out of memory; from the accounting only.
    pub steps_out_of_memory: Vec<String>,
}

impl JobInfo {
    /// A job of which nothing more is known.
    #[must_use]
    pub fn new(job: JobId, state: JobState) -> Self {
        Self {
            job,
            state,
            name: String::new(),
            user: None,
            account: None,
            qos: None,
            partition: None,
            reason: None,
            nodes: None,
            num_nodes: None,
            batch_host: None,
            time_limit: None,
            submit_unix_s: None,
            start_unix_s: None,
            end_unix_s: None,
            preempt_unix_s: None,
            exit: None,
            restarts: None,
            requeue: None,
            stdout: None,
            work_dir: None,
            memory: None,
            tres: None,
            tres_per_node: None,
            dependency: None,
            max_rss_bytes: None,
            steps_out_of_memory: Vec::new(),
        }
    }

    /// The names of its nodes; none while it has none.
    ///
    /// # Errors
    ///
    /// [`SlurmError::BadHostlist`].
    pub fn hosts(&self) -> Result<Vec<String>, SlurmError> {
        hostlist::expand(self.nodes.as_deref().unwrap_or_default())
    }
}

/// How a batch script ended: Slurm's `CODE:SIGNAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Its exit code; above 128, a shell says that its command was killed by the signal that is left.
    pub code: u32,
    /// The signal that killed it, or 0. Slurm also puts numbers here that are no signals: 125 for out
    /// of memory, 53 for an output file that can't be opened.
    pub signal: u32,
}

impl Exit {
    /// Slurm's number for a job out of memory.
    pub(crate) const OUT_OF_MEMORY: u32 = 125;
    /// Slurm's number for a batch script that it could not set up.
    pub(crate) const SETUP: u32 = 53;

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (code, signal) = text.split_once(':')?;
        Some(Self { code: code.parse().ok()?, signal: signal.parse().ok()? })
    }

    /// The signal that ended the script or the command that it ran last.
    #[must_use]
    pub fn killed_by(self) -> Option<u32> {
        match self {
            Self { signal: 1..=64, .. } if self.signal != Self::SETUP => Some(self.signal),
            Self { code: 129..=192, signal: 0 } => Some(self.code - 128),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn as_json_a_job_has_slurms_spellings() {
        let mut info = JobInfo::new("7_2;west".parse().unwrap(), JobState::parse("CANCELLED by 5"));
        info.time_limit = "90".parse().ok();
        info.memory = Some(Memory::PerNode(1 << 30));
        info.exit = Exit::parse("0:15");
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(json["job"], "7_2;west");
        assert_eq!(json["state"], "CANCELLED by 5");
        assert_eq!(json["time_limit"], "01:30:00");
        assert_eq!(json["memory"], serde_json::json!({ "per_node": 1 << 30 }));
        assert_eq!(json["exit"], serde_json::json!({ "code": 0, "signal": 15 }));
        assert!(json["start_unix_s"].is_null());
    }

    #[test]
    fn an_exit_names_its_signal_where_it_has_one() {
        let killed = |text| Exit::parse(text).unwrap().killed_by();
        assert_eq!(killed("0:9"), Some(9));
        assert_eq!(killed("137:0"), Some(9));
        for none in ["0:0", "3:0", "0:125", "0:53", "255:0"] {
            assert_eq!(killed(none), None, "{none}");
        }
        for text in ["", "1", "a:b", "1:2:3", "-1:0"] {
            assert_eq!(Exit::parse(text), None, "{text}");
        }
    }
}
