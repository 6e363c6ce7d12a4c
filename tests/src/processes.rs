//! The processes of one deployment, as /proc shows them.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// A living process that has something to do with a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// What it does there.
    pub role: Role,
    /// Its command line.
    pub command: String,
}

/// What a process does in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `shardrun serve`.
    Launcher,
    /// mpirun.
    Mpirun,
    /// A rank.
    Rank(usize),
    /// Something between fork and exec, for one.
    Other,
}

/// The living processes whose command lines name something in `folder`, in the order in which they
/// were started. A deployment has a folder of its own, which all its processes name, and nobody else
/// does.
#[must_use]
pub fn processes_of(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> = pids.filter_map(|pid| look(pid, folder)).collect();
    found.sort_by_key(|process| (process.role, process.pid));
    found
}

fn look(pid: i32, folder: &Path) -> Option<Process> {
    // The command line of a dead process that nobody has waited for is empty.
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split_terminator('\0').collect();
    let within = format!("{}/", folder.display());
    if !words.iter().any(|word| word.contains(&within)) {
        return None;
    }
    let name = Path::new(words[0]).file_name()?.to_str()?;
    let role = match name {
        "shardrun" => Role::Launcher,
        "mpirun" => Role::Mpirun,
        "shardrun-worker" => Role::Rank(rank(pid)?),
        _ => Role::Other,
    };
    Some(Process { pid, role, command: words.join(" ") })
}

/// The rank that mpirun gave a process; 0 for one that was started without it.
fn rank(pid: i32) -> Option<usize> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let rank = text.split('\0').find_map(|word| word.strip_prefix("OMPI_COMM_WORLD_RANK="));
    rank.map_or(Some(0), |rank| rank.parse().ok())
}

/// Seconds of processor time that a process has used, all its threads together.
///
/// # Errors
/// If it is gone.
pub fn cpu_seconds(pid: i32) -> anyhow::Result<f64> {
    let fields = stat(pid)?;
    // User and system time, fields 14 and 15 of proc_pid_stat(5), in clock ticks.
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?
        .context("the system has clock ticks")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Whether a process was stopped by a signal.
///
/// # Errors
/// If it is gone.
pub fn is_stopped(pid: i32) -> anyhow::Result<bool> {
    Ok(stat(pid)?[0] == "T")
}

/// Whether a process has a thread of this name.
#[must_use]
pub fn has_thread(pid: i32, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.any(|found| found.trim_end() == name)
}

/// The fields of /proc/PID/stat from the third, the state, on: the second may hold anything.
fn stat(pid: i32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat has a name in parentheses")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}
