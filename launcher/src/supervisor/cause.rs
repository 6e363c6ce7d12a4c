//! Why a deployment ended, in words and as an exit code.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use shardrun_wire::lifeline::Hello;

/// Lines of a log that are shown.
const TAIL_LINES: usize = 12;

/// Why a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was asked to.
    Stopped,
    /// A rank said that it can't go on.
    Failed { rank: u32, reason: String, serving: bool },
    /// A rank's lifeline ended without a word.
    Lost { rank: u32 },
    /// A rank's heartbeat stopped.
    Silent { rank: u32, silence: Duration },
    /// mpirun ended before its ranks did.
    Mpirun,
}

impl Cause {
    /// The rank it began with.
    pub(crate) fn rank(&self) -> Option<u32> {
        match *self {
            Self::Failed { rank, .. } | Self::Lost { rank } | Self::Silent { rank, .. } => {
                Some(rank)
            }
            Self::Stopped | Self::Mpirun => None,
        }
    }
}

/// How a deployment ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) cause: Cause,
    pub(crate) mpirun: ExitStatus,
    /// The rank it began with, and its process.
    pub(crate) rank: Option<(Hello, i32)>,
    /// Whether any rank was ever heard of.
    pub(crate) connected_ever: bool,
}

/// A deployment that ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Ended {
    message: String,
    /// Whether it had come to be, and then lost a rank.
    pub(crate) lost_a_rank: bool,
}

impl Outcome {
    /// Whether the deployment ended as it was told to; the error says what else happened. `notices`
    /// are mpirun's own messages.
    pub(crate) fn result(&self, notices: &str) -> Result<(), Ended> {
        let who = match &self.rank {
            Some((hello, pid)) => format!("rank {} on {} (pid {pid})", hello.rank, hello.host),
            None => "a rank".to_owned(),
        };
        let (mut message, lost_a_rank) = match &self.cause {
            Cause::Stopped => return Ok(()),
            Cause::Failed { reason, serving, .. } => (format!("{who} failed: {reason}"), *serving),
            Cause::Lost { .. } => (format!("{who} {}", rank_end(self.mpirun)), true),
            Cause::Silent { silence, .. } => {
                let seconds = silence.as_secs_f64();
                (format!("{who} gave no heartbeat for {seconds:.1} s: stopped or hung"), true)
            }
            Cause::Mpirun if self.connected_ever => {
                (format!("mpirun {}", own_end(self.mpirun)), true)
            }
            Cause::Mpirun => {
                let end = own_end(self.mpirun);
                (format!("mpirun {end} before any rank was heard of\n{notices}"), false)
            }
        };
        // A rank that failed has said why.
        if matches!(self.cause, Cause::Lost { .. } | Cause::Silent { .. })
            && let Some((hello, _)) = &self.rank
        {
            message.push_str(&tail(&hello.log));
        }
        Err(Ended { message: message.trim_end().to_owned(), lost_a_rank })
    }
}

/// What mpirun's exit code says of the rank that it first saw ending.
fn rank_end(mpirun: ExitStatus) -> String {
    match mpirun.code() {
        Some(code) if code > 128 => {
            format!("was killed by signal {} ({})", code - 128, signal_name(code - 128))
        }
        Some(code) if code > 0 => format!("exited with code {code}"),
        _ => "ended without a word".to_owned(),
    }
}

fn own_end(mpirun: ExitStatus) -> String {
    match (mpirun.signal(), mpirun.code()) {
        (Some(signal), _) => format!("was killed by signal {signal} ({})", signal_name(signal)),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// SIGTERM for 15.
pub(super) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |s| s.to_string())
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
