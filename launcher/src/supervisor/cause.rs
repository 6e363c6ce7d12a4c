//! Why an instance ended, in words and as an exit code.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

pub(super) use shardrun_slurm::signal_name;
use shardrun_wire::lifeline::Hello;

/// Lines of a log that are shown.
const TAIL_LINES: usize = 12;

/// Why an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was asked to.
    Stopped,
    /// A rank said that it can't go on.
    Failed { rank: u32, reason: String, serving: bool },
    /// A rank's lifeline ended without a word.
    Lost { rank: u32 },
    /// A rank's heartbeat stopped.
    Silent { rank: u32, silence: Duration, why: Why },
    /// It did not serve in time.
    NotReady { after: Duration, heard: usize, loaded: usize },
    /// A signal asked a rank to end, but nobody the supervisor.
    Signalled { rank: u32, signal: i32 },
    /// Its ranks ended as if they had been told to.
    Unasked,
    /// The starter ended before its ranks did.
    Starter,
}

/// Why a rank is silent, as far as that can be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It couldn't be.
    Unknown,
    /// Its process was stopped by a signal.
    Stopped,
    /// Its node answers.
    Hung,
    /// Its node doesn't.
    NodeGone,
}

impl Why {
    fn told(self) -> &'static str {
        match self {
            Self::Unknown => "stopped or hung",
            Self::Stopped => "its process is stopped (SIGSTOP, or a debugger)",
            Self::Hung => "its node answers, so the process is stopped or hung",
            Self::NodeGone => "its node does not answer: it is down, or cut off from the network",
        }
    }
}

impl Cause {
    /// The rank it began with.
    pub(crate) fn rank(&self) -> Option<u32> {
        match *self {
            Self::Failed { rank, .. }
            | Self::Lost { rank }
            | Self::Silent { rank, .. }
            | Self::Signalled { rank, .. } => Some(rank),
            Self::Stopped | Self::NotReady { .. } | Self::Unasked | Self::Starter => None,
        }
    }
}

/// How an instance ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its name, unless it is the only one.
    pub(crate) instance: Option<String>,
    pub(crate) cause: Cause,
    pub(crate) starter: ExitStatus,
    /// Whether the starter is the only rank itself.
    pub(crate) starter_is_rank: bool,
    /// The rank it began with.
    pub(crate) rank: Option<Hello>,
    /// Whether any rank was ever heard of.
    pub(crate) connected_ever: bool,
}

/// An instance that ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Ended {
    message: String,
    /// Whether it had come to be, and then lost a rank.
    pub(crate) lost_a_rank: bool,
    /// Whether a node was gone.
    pub(crate) lost_a_node: bool,
}

impl Outcome {
    /// Whether it ended as it was told to.
    pub(crate) fn as_told(&self) -> bool {
        self.cause == Cause::Stopped
    }

    /// Whether it ended as it was told to; the error says what else happened. `starter` is the name of
    /// the starter's program, and `notices` its own messages.
    pub(crate) fn result(&self, starter: &str, notices: &str) -> Result<(), Ended> {
        let who = match &self.rank {
            Some(hello) => {
                format!("rank {} on {} (pid {})", hello.id.rank, hello.host, hello.pid)
            }
            None => "a rank".to_owned(),
        };
        let (message, lost_a_rank) = match &self.cause {
            Cause::Stopped => return Ok(()),
            Cause::Failed { reason, serving, .. } => (format!("{who} failed: {reason}"), *serving),
            Cause::Lost { .. } if self.starter_is_rank => {
                (format!("{who} {}", own_end(self.starter)), true)
            }
            Cause::Lost { .. } => (format!("{who} {}", rank_end(self.starter)), true),
            Cause::Silent { silence, why, .. } => {
                let seconds = silence.as_secs_f64();
                (format!("{who} gave no heartbeat for {seconds:.1} s: {}", why.told()), true)
            }
            Cause::Signalled { signal, .. } => {
                (format!("{who} was asked to end by {}", signal_name(*signal)), true)
            }
            Cause::Unasked => ("its ranks ended, though nobody had told them to".to_owned(), true),
            Cause::NotReady { after, heard, loaded } => {
                let said = if notices.is_empty() { "" } else { "\n" };
                let text = format!(
                    "it did not serve within {after:?} (launch.ready_timeout_ms): {heard} ranks were \
                     heard of, {loaded} had loaded{said}{notices}"
                );
                (text, false)
            }
            Cause::Starter if self.connected_ever => {
                (format!("{starter} {}", own_end(self.starter)), true)
            }
            Cause::Starter => {
                let end = own_end(self.starter);
                (format!("{starter} {end} before any rank was heard of\n{notices}"), false)
            }
        };
        let mut message = match &self.instance {
            Some(instance) => format!("{instance}: {message}"),
            None => message,
        };
        // A rank that failed has said why.
        if matches!(self.cause, Cause::Lost { .. } | Cause::Silent { .. })
            && let Some(hello) = &self.rank
        {
            message.push_str(&tail(&hello.log));
        }
        let lost_a_node = matches!(self.cause, Cause::Silent { why: Why::NodeGone, .. });
        Err(Ended { message: message.trim_end().to_owned(), lost_a_rank, lost_a_node })
    }
}

impl Ended {
    /// No rank was started.
    pub(crate) fn not_started(message: String) -> Self {
        Self { message, lost_a_rank: false, lost_a_node: false }
    }
}

/// What the starter's exit code says of the rank that it first saw ending.
fn rank_end(starter: ExitStatus) -> String {
    match starter.code() {
        Some(code) if code > 128 => {
            format!("was killed by signal {} ({})", code - 128, signal_name(code - 128))
        }
        Some(code) if code > 0 => format!("exited with code {code}"),
        _ => "ended without a word".to_owned(),
    }
}

fn own_end(starter: ExitStatus) -> String {
    match (starter.signal(), starter.code()) {
        (Some(signal), _) => format!("was killed by signal {signal} ({})", signal_name(signal)),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The end of a log of this machine, with where it is.
fn tail(log: &str) -> String {
    let mut text = format!("\nits log is {log}");
    if let Ok(bytes) = std::fs::read(Path::new(log)) {
        let all = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = all.lines().collect();
        text.push_str(", and ends:");
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            let _ = write!(text, "\n  {line}");
        }
    }
    text
}
