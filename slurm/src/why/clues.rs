//! Lines of logs that say what happened.

use crate::error::excerpt;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clue {
    /// A step was killed for its memory; with bytes where Slurm measured them itself.
    OutOfMemory { step: Option<String>, used_bytes: Option<u64>, limit_bytes: Option<u64> },
    /// A node went away.
    NodeFailure { node: String },
    /// srun has no such MPI plugin.
    UnknownPlugin { plugin: String },
    /// srun and the MPI library don't speak the same PMI.
    PmiMismatch,
    /// A program that isn't on the node, with Slurm's words.
    NoProgram { words: String },
    /// Slurm didn't start a step, with its words.
    StepRefused { words: String },
    /// What shardrun said of a rank that died: `rank 1 on n2 (pid 7) was killed by signal 9`.
    RankDied { words: String },
    /// What srun said of tasks that ended by themselves.
    TaskDied { node: String, tasks: String, how: String },
}

/// A clue, and the line that it was found in.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) clue: Clue,
    pub(super) line: String,
}

/// What MPI libraries, and shardrun's ranks, say when they don't find the PMI that they were built for.
const PMI: [&str; 6] = [
    "1 rank was started and model.tp_size is",
    "was not built with SLURM's PMI support",
    "PMI2_Init",
    "PMI2_Job_GetId",
    "PMIX ERROR: UNREACHABLE",
    "OPAL ERROR: Unreachable in file",
];

/// All clues of a log, in their order.
pub(super) fn clues(lines: &[String]) -> Vec<Found> {
    let found = |line: &String| Some(Found { clue: clue(line)?, line: excerpt(line.trim()) });
    lines.iter().filter_map(found).collect()
}

fn clue(line: &str) -> Option<Clue> {
    let has = |words: &str| line.contains(words);
    if has("oom-kill event") || has("oom_kill event") || has("Exceeded job memory limit") {
        let step = after(line, "StepId=").map(|step| step.trim_end_matches('.').to_owned());
        return Some(Clue::OutOfMemory { step, used_bytes: None, limit_bytes: None });
    }
    if has(" exceeded memory limit (") {
        // StepId=5.batch exceeded memory limit (329715712 > 31457280), being killed
        let step = after(line, "StepId=").map(str::to_owned);
        let number = |before| after(line, before)?.parse().ok();
        let (used_bytes, limit_bytes) = (number("limit ("), number(" > "));
        return Some(Clue::OutOfMemory { step, used_bytes, limit_bytes });
    }
    if let Some(node) = after(line, "Node failure on ") {
        return Some(Clue::NodeFailure { node: node.to_owned() });
    }
    for before in
        ["cannot find mpi plugin for mpi/", "not found: mpi plugin ", "Invalid MPI type '"]
    {
        if let Some(plugin) = after(line, before) {
            return Some(Clue::UnknownPlugin { plugin: plugin.to_owned() });
        }
    }
    if PMI.iter().any(|words| has(words)) {
        return Some(Clue::PmiMismatch);
    }
    if let Some((_, words)) = line.split_once("execve(): ") {
        return Some(Clue::NoProgram { words: words.trim().to_owned() });
    }
    if let Some(words) = srun_refusal(line) {
        return Some(Clue::StepRefused { words: words.to_owned() });
    }
    rank(line).or_else(|| task(line))
}

/// The word after `before`, up to a blank, a comma, a quote or a bracket.
fn after<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split([' ', ',', '\'', ')']).next().filter(|word| !word.is_empty())
}

fn srun_refusal(line: &str) -> Option<&str> {
    let (_, words) = line.split_once("srun: error: ")?;
    let refusals = ["Unable to create step", "Only allocated ", "Unable to confirm allocation"];
    refusals.iter().any(|refusal| words.starts_with(refusal)).then(|| words.trim())
}

/// `rank 1 on n2 (pid 7) was killed by signal 9 (SIGKILL)`, wherever in the line it stands.
fn rank(line: &str) -> Option<Clue> {
    const ENDS: [&str; 5] = [
        ") was killed by signal ",
        ") exited with code ",
        ") failed: ",
        ") gave no heartbeat ",
        ") ended without a word",
    ];
    let start = line.match_indices("rank ").find(|(at, _)| {
        let rest = &line[at + "rank ".len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with(" on ") && rest.contains(" (pid ")
    });
    let words = &line[start?.0..];
    let died = ENDS.iter().any(|end| words.contains(end));
    died.then(|| Clue::RankDied { words: excerpt(words.trim()) })
}

/// `srun: error: n2: task 1: Killed`. Tasks that were terminated are those that died of others.
fn task(line: &str) -> Option<Clue> {
    let (_, rest) = line.trim().split_once("srun: error: ")?;
    let (node, rest) = rest.split_once(": ")?;
    let (tasks, how) = rest.split_once(": ")?;
    let tasks = tasks.strip_prefix("tasks ").or(tasks.strip_prefix("task "))?;
    if how.starts_with("Out Of Memory") {
        return Some(Clue::OutOfMemory { step: None, used_bytes: None, limit_bytes: None });
    }
    let died = !how.starts_with("Terminated");
    died.then(|| Clue::TaskDied { node: node.into(), tasks: tasks.into(), how: how.into() })
}
