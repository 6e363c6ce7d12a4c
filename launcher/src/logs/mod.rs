//! The logs of a run: which files there are, and reading them while they grow.

mod reader;
mod sources;

pub(crate) use reader::{Reader, last_lines};
pub(crate) use sources::{Source, Wanted, sources};

/// Begins what a starter says of one attempt, in a log that several attempts write to.
const ATTEMPT: &str = "=== instance ";

/// The line that parts an instance's attempt, in its starter's log, from what came before.
pub(crate) fn attempt_line(instance: u32, attempt: u32) -> String {
    format!("{ATTEMPT}{instance}, attempt {attempt} ===\n")
}

/// Whether what comes after this line of a log is of another start than what is before it.
pub(crate) fn begins_a_start(line: &str) -> bool {
    let of_supervisor = line.starts_with("starting ") && line.contains("; logs are in ");
    of_supervisor
        || line.starts_with("starting it again in ")
        || line.starts_with(ATTEMPT)
        // Slurm's own word on a job that goes back to the queue.
        || line.ends_with("DUE TO JOB REQUEUE ***")
}
