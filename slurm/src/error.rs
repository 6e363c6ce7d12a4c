//! What can go wrong between a launcher and Slurm.

use std::fmt;
use std::process::ExitStatus;

use crate::JobId;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// One of Slurm's programs is not here.
    #[error("{program} was not found on PATH: this does not seem to be a machine with Slurm")]
    NoProgram {
        /// The program.
        program: String,
    },
    /// One of Slurm's programs can't be started.
    #[error("{program} cannot be run: {source}")]
    Unrunnable {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program took too long and was killed. What it was to do may be done all the same.
    #[error("{program} did not end within {seconds} s and was stopped")]
    TimedOut {
        /// The program.
        program: String,
        /// What it had.
        seconds: u64,
    },
    /// A program was started, and then could not be watched. What it was to do may be done all the same.
    #[error("{program} was started and could not be watched: {source}")]
    Lost {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program was killed, or failed without a word. What it was to do may be done all the same.
    #[error("{program} ended with {status}{}", said(message))]
    Broken {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its words, mostly none.
        message: String,
    },
    /// A program wrote more than anyone should read.
    #[error("{program} wrote more than {limit_bytes} bytes and was stopped")]
    TooMuchOutput {
        /// The program.
        program: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// Slurm's controller, or its database, doesn't answer: worth another try.
    #[error(
        "Slurm does not answer here: {program} says {:?}; is this a machine of the cluster?",
        last_words(message)
    )]
    Unreachable {
        /// The program that said so.
        program: String,
        /// Its words.
        message: String,
    },
    /// Slurm won't do it.
    #[error("Slurm refused: {message}")]
    Refused {
        /// The program that said so.
        program: String,
        /// Its words, as they are.
        message: String,
    },
    /// Neither the controller nor the accounting knows the job.
    #[error(
        "Slurm knows no job {job}: the controller has forgotten it or never had it, {accounting}"
    )]
    UnknownJob {
        /// The job.
        job: JobId,
        /// What the accounting said.
        accounting: Accounting,
    },
    /// A program's output is not what its manual says.
    #[error("{program} wrote {text:?}, which is not {expected}")]
    Unreadable {
        /// The program.
        program: String,
        /// What it wrote, at most a few hundred bytes of it.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A value that can't be written into a script or a command.
    #[error("{field} is {value:?}; allowed: {allowed}")]
    BadValue {
        /// Where the value stands, in Slurm's spelling.
        field: String,
        /// The value.
        value: String,
        /// What the field takes.
        allowed: &'static str,
    },
    /// A host list that can't be read.
    #[error("host list {list:?}: {problem}")]
    BadHostlist {
        /// The list, at most a few hundred bytes of it.
        list: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable of a job's environment that can't be read.
    #[error("environment variable {name} is {value:?}; expected {expected}")]
    BadVariable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A partition that the cluster doesn't have.
    #[error("partition {name:?} does not exist; there are: {}", known.join(", "))]
    UnknownPartition {
        /// The partition asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
}

impl SlurmError {
    /// Whether what a program was to do may be done all the same: it was started, and Slurm didn't refuse.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::TimedOut { .. }
            | Self::Lost { .. }
            | Self::Broken { .. }
            | Self::TooMuchOutput { .. }
            | Self::Unreachable { .. }
            | Self::Unreadable { .. } => true,
            Self::NoProgram { .. }
            | Self::Unrunnable { .. }
            | Self::Refused { .. }
            | Self::UnknownJob { .. }
            | Self::BadValue { .. }
            | Self::BadHostlist { .. }
            | Self::BadVariable { .. }
            | Self::UnknownPartition { .. } => false,
        }
    }
}

/// The last of what a program of Slurm's said, without its own name and `error:`: what went before is how
/// it came to that.
fn last_words(message: &str) -> &str {
    let last = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(message);
    let marks = ["error: ", "fatal: "];
    let after = marks.iter().filter_map(|mark| last.split_once(mark)).map(|(_, after)| after);
    after.min_by_key(|after| after.len()).unwrap_or(last).trim()
}

fn said(message: &str) -> String {
    match message {
        "" => " and without a word".to_owned(),
        words => format!(": {words}"),
    }
}

/// What the accounting said of a job that the controller doesn't know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// This cluster keeps none.
    Off,
    /// It has no such job.
    NoSuchJob,
    /// It can't be asked.
    Unavailable(String),
}

impl fmt::Display for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("and this cluster keeps no accounting"),
            Self::NoSuchJob => f.write_str("and the accounting has no such job"),
            Self::Unavailable(why) => write!(f, "and the accounting could not be asked: {why}"),
        }
    }
}

/// The beginning of a text that goes into a message.
pub(crate) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 300;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
