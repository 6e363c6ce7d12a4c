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
    /// Whose part it is, if it is one instance's of several.
    pub of: Option<Attempt>,
    /// Its command line.
    pub command: String,
}

/// One start of an instance, as orchestrator mode counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The instance's number.
    pub instance: u32,
    /// How often it was started before.
    pub attempt: u32,
}

/// What a process does in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `shardrun serve`.
    Launcher,
    /// mpirun.
    Mpirun,
    /// `shardrun-spawn`.
    Spawner,
    /// The MPI library's daemon, which starts what is spawned.
    Daemon,
    /// A rank.
    Rank(usize),
    /// Something between fork and exec, for one.
    Other,
}

/// The living processes that name something in `folder`, on their command lines or in their
/// environments, who starts others before those. A deployment has a folder of its own, which nobody
/// else names.
#[must_use]
pub fn processes_of(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let within = format!("{}/", folder.display());
    let mut found: Vec<Process> = pids.filter_map(|pid| look(pid, &within)).collect();
    found.sort_by_key(|process| (process.role, process.pid));
    found
}

fn look(pid: i32, within: &str) -> Option<Process> {
    // The command line of a dead process that nobody has waited for is empty.
    let command = words(pid, "cmdline")?;
    let name = Path::new(command.first()?).file_name()?.to_str()?.to_owned();
    let environment = words(pid, "environ")?;
    if !command.iter().chain(&environment).any(|word| word.contains(within)) {
        return None;
    }
    let role = match &*name {
        "shardrun" => Role::Launcher,
        "mpirun" => Role::Mpirun,
        "shardrun-spawn" => Role::Spawner,
        "orted" => Role::Daemon,
        "shardrun-worker" => Role::Rank(rank(&environment)?),
        _ => Role::Other,
    };
    Some(Process { pid, role, of: attempt(&environment), command: command.join(" ") })
}

fn words(pid: i32, file: &str) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.split_terminator('\0').map(str::to_owned).collect())
}

/// The rank that the MPI library gave a process; 0 for one that it didn't start.
fn rank(environment: &[String]) -> Option<usize> {
    match variable(environment, "OMPI_COMM_WORLD_RANK=") {
        Some(rank) => rank.parse().ok(),
        None => Some(0),
    }
}

/// The instance that a process belongs to: each start of one has a folder of its own for the MPI
/// library's files, `mpi.INSTANCE.ATTEMPT`, which its starter is told and hands on.
fn attempt(environment: &[String]) -> Option<Attempt> {
    let folder = Path::new(variable(environment, "OMPI_MCA_orte_tmpdir_base=")?);
    let name = folder.file_name()?.to_str()?;
    let (instance, attempt) = name.strip_prefix("mpi.")?.split_once('.')?;
    Some(Attempt { instance: instance.parse().ok()?, attempt: attempt.parse().ok()? })
}

fn variable<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().find_map(|word| word.strip_prefix(name))
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
