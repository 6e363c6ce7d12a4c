//! A deployment that was started, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::Client;
use crate::leftovers::Leftovers;
use crate::processes::{Process, Role, processes_of};
use crate::sharing::Turn;
use crate::wait::{until, until_some};

/// How long a deployment may take to be ready: a loaded machine is slow.
const READY: Duration = Duration::from_secs(60);

/// Where a deployment that is ready can be reached, `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The API.
    pub http: String,
    /// `/metrics`.
    pub metrics: String,
}

/// A deployment that was started. Dropping it ends all its processes, and prints what it has printed.
#[derive(Debug)]
pub struct Deployment {
    folder: TempDir,
    /// What was started: the launcher, mpirun, or a worker.
    child: Mutex<Child>,
    before: Leftovers,
    /// Whether dropping it removes what it has left.
    tidy: bool,
    _turn: Turn,
}

/// What a deployment is made of.
pub(crate) struct Start {
    pub(crate) folder: TempDir,
    pub(crate) child: Child,
    pub(crate) before: Leftovers,
    pub(crate) turn: Turn,
}

impl Deployment {
    pub(crate) fn new(start: Start) -> Self {
        let Start { folder, child, before, turn } = start;
        Self { folder, child: Mutex::new(child), before, tidy: true, _turn: turn }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// If it ends, or isn't ready in time.
    pub fn ready(&self) -> anyhow::Result<Ready> {
        until_some("the deployment to be ready", READY, || {
            if let Some(status) = self.exit_status()? {
                bail!("the deployment ended ({status}) before it was ready");
            }
            let text = self.stdout();
            // The last line of what is printed then.
            let Some((about, _)) = text.split_once("\n  curl ") else { return Ok(None) };
            let address = |what: &str, end: &str| {
                let (_, rest) = about.split_once(what)?;
                let line = rest.lines().next()?.trim().strip_prefix("http://")?;
                Some(line.strip_suffix(end)?.to_owned())
            };
            let http = address("  HTTP ", "").context("the ready text has no HTTP address")?;
            let metrics =
                address("  metrics ", "/metrics").context("the ready text has no metrics")?;
            Ok(Some(Ready { http, metrics }))
        })
    }

    /// Waits until it is ready, and gives a client of it.
    ///
    /// # Errors
    /// As [`Deployment::ready`].
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(self.ready()?))
    }

    /// What it has printed on standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.text("stdout")
    }

    /// What it has printed on standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.text("stderr")
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its living processes.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        processes_of(self.folder.path())
    }

    /// The process that has this role.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn pid(&self, role: Role) -> anyhow::Result<i32> {
        self.pid_where(role, |_| true)
    }

    /// The process of an instance that has this role.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn pid_of(&self, instance: u32, role: Role) -> anyhow::Result<i32> {
        self.pid_where(role, |process| process.of.is_some_and(|of| of.instance == instance))
    }

    fn pid_where(&self, role: Role, is: impl Fn(&Process) -> bool) -> anyhow::Result<i32> {
        let processes = self.processes();
        let found: Vec<_> = processes.iter().filter(|it| it.role == role && is(it)).collect();
        let [process] = found[..] else {
            bail!("there is not one {role:?} among {processes:?}");
        };
        Ok(process.pid)
    }

    /// The ranks' processes, by rank.
    #[must_use]
    pub fn rank_pids(&self) -> Vec<i32> {
        let mut ranks: Vec<(Role, i32)> = self
            .processes()
            .into_iter()
            .filter(|process| matches!(process.role, Role::Rank(_)))
            .map(|process| (process.role, process.pid))
            .collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Sends a signal to the process that has this role.
    ///
    /// # Errors
    /// If there is none.
    pub fn signal(&self, role: Role, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid(role)?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {pid}"))
    }

    /// The directory of the run.
    ///
    /// # Errors
    /// If there isn't one.
    pub fn run_dir(&self) -> anyhow::Result<PathBuf> {
        let runs = self.folder.path().join("runs");
        let mut runs = fs::read_dir(&runs).with_context(|| format!("{}", runs.display()))?;
        let run = runs.next().context("there is no run directory")??;
        ensure!(runs.next().is_none(), "there are several run directories");
        Ok(run.path())
    }

    /// What all its names in shared memory begin with, as its own resolved deployment file says.
    ///
    /// # Errors
    /// If there is no run.
    pub fn shm_prefix(&self) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.run_dir()?.join("deployment.toml"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("shm_prefix = "));
        let quoted = line.context("the resolved deployment has no shm_prefix")?;
        Ok(quoted.trim_matches('"').to_owned())
    }

    /// What it has left in shared memory, once nothing of it lives.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut left = self.before.abandoned();
        if let Ok(own) = self.shm_prefix() {
            // Others of this user's may die at the same time.
            left.retain(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&own) || !name.starts_with("shardrun_")
            });
        }
        left
    }

    /// What Open MPI keeps in the folders of its sessions.
    #[must_use]
    pub fn mpi_files(&self) -> Vec<PathBuf> {
        let mut files = entries(&self.folder.path().join("tmp"));
        let run = self.run_dir().map(|run| entries(&run)).unwrap_or_default();
        let of_starts = run.iter().filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mpi."))
        });
        files.extend(of_starts.flat_map(|folder| entries(folder)));
        files
    }

    /// The names of what is in the directory of the run.
    ///
    /// # Errors
    /// If there is no run.
    pub fn run_files(&self) -> anyhow::Result<Vec<String>> {
        let name = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(entries(&self.run_dir()?).into_iter().filter_map(name).collect())
    }

    /// `state.json` of the run, as it is now.
    ///
    /// # Errors
    /// If there is none.
    pub fn state(&self) -> anyhow::Result<Value> {
        let path = self.run_dir()?.join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// How what was started has ended, if it has.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn exit_status(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().context("cannot wait for a child")
    }

    /// Waits for the end of what was started.
    ///
    /// # Errors
    /// If it doesn't end in time.
    pub fn wait(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        until_some("the deployment to end", within, || self.exit_status())
    }

    /// Waits until no process of it is left, and nothing in shared memory; gives how long that took.
    ///
    /// # Errors
    /// If something is left when the time is over; says what.
    pub fn wait_until_gone(&self, within: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        until("all processes to end", within, || {
            // Ours to wait for: until then it would count.
            self.exit_status()?;
            Ok(self.processes().is_empty())
        })
        .with_context(|| format!("left are {:#?}", self.processes()))?;
        until("everything to be removed", within.saturating_sub(started.elapsed()), || {
            Ok(self.leftovers().is_empty())
        })
        .with_context(|| format!("left are {:#?}", self.leftovers()))?;
        Ok(started.elapsed())
    }

    /// Sends SIGKILL to all its processes at once, and leaves what they leave; gives the names in shared
    /// memory.
    ///
    /// # Errors
    /// If a process doesn't end.
    pub fn kill_and_leave(mut self) -> anyhow::Result<Vec<PathBuf>> {
        let (prefix, processes) = (self.shm_prefix()?, self.processes());
        // Stopped first, so that none sees another's death and tidies up. Who starts processes goes
        // last: the system wakes up those that are orphaned while they are stopped.
        for process in &processes {
            kill(Pid::from_raw(process.pid), Signal::SIGSTOP)?;
        }
        for process in processes.iter().rev() {
            kill(Pid::from_raw(process.pid), Signal::SIGKILL)?;
        }
        self.end_all()?;
        self.tidy = false;
        Ok(Leftovers::named(&prefix))
    }

    fn end_all(&self) -> anyhow::Result<()> {
        until("what is left to end", Duration::from_secs(5), || {
            let left = self.kill_all();
            self.exit_status()?;
            Ok(left.is_empty())
        })?;
        Ok(())
    }

    fn kill_all(&self) -> Vec<Process> {
        let processes = self.processes();
        for process in &processes {
            match kill(Pid::from_raw(process.pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => eprintln!("cannot kill {process:?}: {errno}"),
            }
        }
        processes
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Err(error) = self.end_all() {
            eprintln!("{error:#}");
        }
        // A test that failed is no reason to leave anything behind.
        let prefix = self.shm_prefix().ok().filter(|_| self.tidy);
        for path in prefix.iter().flat_map(|prefix| Leftovers::named(prefix)) {
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        // Shown if the test fails.
        println!("the deployment printed:\n{}{}", self.stdout(), self.stderr());
    }
}

/// What is in `folder`, in order; nothing if there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
