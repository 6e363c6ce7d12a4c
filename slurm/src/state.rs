//! The states of a job.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What Slurm says a job is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are Slurm's; squeue(1) says what each means")]
pub enum JobState {
    Pending,
    Configuring,
    Running,
    Completing,
    Completed,
    Failed,
    Timeout,
    /// Cancelled; the accounting also says by whom, as a user id.
    Cancelled {
        by: Option<String>,
    },
    Preempted,
    NodeFail,
    OutOfMemory,
    BootFail,
    Deadline,
    Requeued,
    RequeueHold,
    RequeueFed,
    Resizing,
    Revoked,
    Signaling,
    SpecialExit,
    StageOut,
    Stopped,
    Suspended,
    ResvDelHold,
    LaunchFailed,
    ReconfigFail,
    PowerUpNode,
    UpdateDb,
    Expediting,
    /// One that this program has not heard of, as Slurm wrote it.
    Unknown(String),
}

/// Where in its life a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has no nodes, or its nodes are being made ready.
    Waiting,
    /// Its processes run.
    Running,
    /// It has nodes and its processes don't run: suspended or stopped.
    Stopped,
    /// Its processes are ending, or Slurm is settling what becomes of it.
    Ending,
    /// It is over and stays as it is.
    Final,
    /// Nobody knows: the state is an unknown one.
    Unknown,
}

const CANCELLED: JobState = JobState::Cancelled { by: None };

/// Every state, with Slurm's long and compact names. Some have no compact one of their own.
const NAMES: &[(JobState, &str, &str)] = &[
    (JobState::Pending, "PENDING", "PD"),
    (JobState::Configuring, "CONFIGURING", "CF"),
    (JobState::Running, "RUNNING", "R"),
    (JobState::Completing, "COMPLETING", "CG"),
    (JobState::Completed, "COMPLETED", "CD"),
    (JobState::Failed, "FAILED", "F"),
    (JobState::Timeout, "TIMEOUT", "TO"),
    (CANCELLED, "CANCELLED", "CA"),
    (JobState::Preempted, "PREEMPTED", "PR"),
    (JobState::NodeFail, "NODE_FAIL", "NF"),
    (JobState::OutOfMemory, "OUT_OF_MEMORY", "OOM"),
    (JobState::BootFail, "BOOT_FAIL", "BF"),
    (JobState::Deadline, "DEADLINE", "DL"),
    (JobState::Requeued, "REQUEUED", "RQ"),
    (JobState::RequeueHold, "REQUEUE_HOLD", "RH"),
    (JobState::RequeueFed, "REQUEUE_FED", "RF"),
    (JobState::Resizing, "RESIZING", "RS"),
    (JobState::Revoked, "REVOKED", "RV"),
    (JobState::Signaling, "SIGNALING", "SI"),
    (JobState::SpecialExit, "SPECIAL_EXIT", "SE"),
    (JobState::StageOut, "STAGE_OUT", "SO"),
    (JobState::Stopped, "STOPPED", "ST"),
    (JobState::Suspended, "SUSPENDED", "S"),
    (JobState::ResvDelHold, "RESV_DEL_HOLD", "RD"),
    (JobState::LaunchFailed, "LAUNCH_FAILED", "LF"),
    (JobState::ReconfigFail, "RECONFIG_FAIL", ""),
    (JobState::PowerUpNode, "POWER_UP_NODE", ""),
    (JobState::UpdateDb, "UPDATE_DB", ""),
    (JobState::Expediting, "EXPEDITING", ""),
];

impl JobState {
    /// Reads a state in any of Slurm's spellings: `CANCELLED`, `CA`, `CANCELLED+` where a column was
    /// too narrow, `CANCELLED by 1000`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let cut = word.strip_suffix('+');
        let word = cut.unwrap_or(word);
        let named = |(_, long, compact): &&(Self, &str, &str)| {
            *long == word
                || (*compact == word && !word.is_empty())
                // A narrow column cuts names short: `OUT_OF_ME+`.
                || (cut.is_some() && word.len() >= 3 && long.starts_with(word))
        };
        let by = rest.strip_prefix("by ").map(|by| by.trim().to_owned());
        match NAMES.iter().find(named) {
            Some((JobState::Cancelled { .. }, ..)) => Self::Cancelled { by },
            Some((state, ..)) if rest.is_empty() => state.clone(),
            _ => Self::Unknown(text.to_owned()),
        }
    }

    /// Slurm's long name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown(text) => text,
            Self::Cancelled { .. } => "CANCELLED",
            _ => NAMES.iter().find(|(state, ..)| state == self).map_or("", |(_, long, _)| long),
        }
    }

    /// Where in its life a job of this state is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Pending
            | Self::Configuring
            | Self::Requeued
            | Self::RequeueHold
            | Self::RequeueFed
            | Self::SpecialExit
            | Self::ResvDelHold
            | Self::PowerUpNode
            | Self::Expediting => Phase::Waiting,
            Self::Running | Self::Resizing | Self::Signaling => Phase::Running,
            Self::Stopped | Self::Suspended => Phase::Stopped,
            Self::Completing
            | Self::StageOut
            | Self::LaunchFailed
            | Self::ReconfigFail
            | Self::UpdateDb => Phase::Ending,
            Self::Completed
            | Self::Failed
            | Self::Timeout
            | Self::Cancelled { .. }
            | Self::Preempted
            | Self::NodeFail
            | Self::OutOfMemory
            | Self::BootFail
            | Self::Deadline
            | Self::Revoked => Phase::Final,
            Self::Unknown(_) => Phase::Unknown,
        }
    }

    /// Whether the job is over and stays as it is.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.phase() == Phase::Final
    }

    /// Whether the job has yet to start.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.phase() == Phase::Waiting
    }

    /// Whether the job's processes run.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase() == Phase::Running
    }
}

impl FromStr for JobState {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Cancelled { by: Some(by) } => Cow::Owned(format!("CANCELLED by {by}")),
            _ => Cow::Borrowed(self.name()),
        };
        f.pad(&text)
    }
}

impl Serialize for JobState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_known_by_both_names_and_has_a_phase() {
        for (state, long, compact) in NAMES {
            assert_eq!(JobState::parse(long), *state);
            assert_eq!(state.to_string(), *long);
            assert_ne!(state.phase(), Phase::Unknown, "{long}");
            if !compact.is_empty() {
                assert_eq!(JobState::parse(compact), *state);
            }
        }
    }

    #[test]
    fn names_differ() {
        for (i, (_, long, compact)) in NAMES.iter().enumerate() {
            for (_, other, other_compact) in &NAMES[..i] {
                assert_ne!(long, other);
                assert!(compact.is_empty() || compact != other_compact, "{long} and {other}");
            }
        }
    }

    #[test]
    fn a_cancelled_job_says_by_whom() {
        let by_root = JobState::parse("CANCELLED by 0");
        assert_eq!(by_root, JobState::Cancelled { by: Some("0".into()) });
        assert_eq!((by_root.to_string(), by_root.name()), ("CANCELLED by 0".into(), "CANCELLED"));
        assert_eq!(JobState::parse("CANCELLED+"), CANCELLED);
        assert!(by_root.is_final());
    }

    #[test]
    fn names_cut_by_a_column_are_known() {
        assert_eq!(JobState::parse("OUT_OF_ME+"), JobState::OutOfMemory);
        assert_eq!(JobState::parse(" CANCELLED+ "), CANCELLED);
        assert_eq!(JobState::parse("+"), JobState::Unknown("+".into()));
    }

    #[test]
    fn an_unknown_state_is_shown_as_it_is() {
        for text in ["DREAMING", "", "RUNNING twice", "running"] {
            let state = JobState::parse(text);
            assert_eq!(state, JobState::Unknown(text.into()));
            assert_eq!((state.to_string(), state.phase()), (text.into(), Phase::Unknown));
        }
    }

    #[test]
    fn a_job_that_may_come_back_is_not_final() {
        for text in ["REQUEUED", "REQUEUE_HOLD", "COMPLETING", "LAUNCH_FAILED", "STOPPED"] {
            assert!(!JobState::parse(text).is_final(), "{text}");
        }
        assert!(JobState::Configuring.is_waiting() && JobState::Resizing.is_running());
    }
}
