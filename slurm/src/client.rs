//! Slurm, by way of the site's own programs.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::command::{self, Output};
use crate::error::excerpt;
use crate::read::{sacct, scontrol, sinfo, squeue};
use crate::time::ENVIRONMENT;
use crate::{Accounting, JobId, JobInfo, Partition, SlurmError};

/// How long a program may take. They give up on a controller that doesn't answer after 10 to 20
/// seconds by themselves, and then say so.
const TIMEOUT: Duration = Duration::from_secs(40);

/// By which variables users change what Slurm's programs show; ours say all that they want.
const USERS_HABITS: [&str; 4] = ["SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_"];

/// By which words Slurm says that its controller or its database doesn't answer.
const UNREACHABLE: [&str; 7] = [
    "Unable to contact slurm controller",
    "Socket timed out on send/recv",
    "Zero Bytes were transmitted or received",
    "Transport endpoint is not connected",
    "Connection refused",
    "Unable to connect to database",
    "Could not establish a configuration source",
];

/// The Slurm of this machine. Nothing but the cluster's name is kept between two calls, and every call
/// runs a program, each of which asks the controller: ask for many jobs at once, and seldom.
#[derive(Clone, Debug)]
pub struct Slurm {
    programs: Option<PathBuf>,
    timeout: Duration,
    cluster: Arc<OnceLock<String>>,
}

/// The jobs of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Those that could be read.
    pub jobs: Vec<JobInfo>,
    /// Lines that could not: of a job that isn't among [`jobs`](Self::jobs) they may tell.
    pub unread: Vec<String>,
}

/// A job that Slurm took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The job.
    pub job: JobId,
    /// What sbatch, or the site by way of it, had to say; often nothing.
    pub notices: String,
}

impl Default for Slurm {
    fn default() -> Self {
        Self { programs: None, timeout: TIMEOUT, cluster: Arc::default() }
    }
}

impl Slurm {
    /// The Slurm whose programs are on PATH.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, its programs taken from this folder.
    #[must_use]
    pub fn with_programs_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// The same; each program may take so long.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether sbatch is here. Whether a controller answers is another question:
    /// [`partitions`](Self::partitions) asks it.
    #[must_use]
    pub fn available(&self) -> bool {
        let path = || env::var_os("PATH").unwrap_or_default();
        let folders = match &self.programs {
            Some(folder) => vec![folder.clone()],
            None => env::split_paths(&path()).collect(),
        };
        folders.iter().any(|folder| is_program(&folder.join("sbatch")))
    }

    /// Slurm's version: `22.05.8`.
    ///
    /// # Errors
    ///
    /// As of any program: it is missing, fails or takes too long.
    pub fn version(&self) -> Result<String, SlurmError> {
        let output = self.run("sbatch", None, ["--version"])?;
        let text = accepted("sbatch", output)?.stdout;
        let version = text.split_whitespace().last();
        let numeric = |version: &&str| version.starts_with(|c: char| c.is_ascii_digit());
        let version = version.filter(numeric).map(str::to_owned);
        version.ok_or_else(|| unreadable("sbatch", &text, "a version"))
    }

    /// The cluster's name.
    ///
    /// # Errors
    ///
    /// As of any program.
    pub fn cluster_name(&self) -> Result<String, SlurmError> {
        if let Some(name) = self.cluster.get() {
            return Ok(name.clone());
        }
        let output = self.run("scontrol", None, ["show", "config"])?;
        let text = accepted("scontrol", output)?.stdout;
        let name = scontrol::cluster_name(&text);
        let name = name.ok_or_else(|| unreadable("scontrol", &text, "a configuration"))?;
        Ok(self.cluster.get_or_init(|| name).clone())
    }

    /// Submits a script; `options` stand before it and win over its directives.
    ///
    /// # Errors
    ///
    /// [`SlurmError::Refused`] with sbatch's words. After an error that is
    /// [in doubt](SlurmError::is_in_doubt) the job may have been taken all the same: look for its name
    /// before trying again.
    pub fn submit(&self, script: &Path, options: &[String]) -> Result<Submitted, SlurmError> {
        let output = self.sbatch("--parsable", script, options)?;
        // A site's own programs may write lines before it and after it.
        let job = output.stdout.lines().find_map(|line| line.trim().parse().ok());
        let job = job.ok_or_else(|| unreadable("sbatch", &output.stdout, "a job number"))?;
        Ok(Submitted { job, notices: output.stderr.trim().to_owned() })
    }

    /// Asks whether Slurm would take a script, and submits nothing. Gives sbatch's words, among them
    /// when the job would start.
    ///
    /// # Errors
    ///
    /// [`SlurmError::Refused`] with sbatch's words.
    pub fn validate(&self, script: &Path, options: &[String]) -> Result<String, SlurmError> {
        let output = self.sbatch("--test-only", script, options)?;
        Ok(output.stderr.trim().to_owned())
    }

    fn sbatch(&self, mode: &str, script: &Path, options: &[String]) -> Result<Output, SlurmError> {
        let script = match script.is_absolute() {
            true => script.to_owned(),
            // Else sbatch would look for it on PATH, or take it for an option.
            false => Path::new(".").join(script),
        };
        let arguments = [OsStr::new(mode)];
        let options = options.iter().map(OsStr::new);
        let all = arguments.into_iter().chain(options).chain([script.as_os_str()]);
        accepted("sbatch", self.run("sbatch", None, all)?)
    }

    /// What Slurm knows of a job: its controller, or the accounting once that has forgotten it. Of an
    /// array without a task's number it is the task that the controller lists first.
    ///
    /// # Errors
    ///
    /// [`SlurmError::UnknownJob`] if neither knows it.
    pub fn show(&self, job: &JobId) -> Result<JobInfo, SlurmError> {
        let id = job.argument();
        let output = self.run("scontrol", Some(job), ["--oneliner", "show", "job", &id])?;
        if output.stderr.contains("Invalid job id") {
            return self.accounting(job);
        }
        let output = accepted("scontrol", output)?;
        let jobs: Vec<_> = output.stdout.lines().filter_map(scontrol::job).collect();
        let exact = jobs.iter().position(|info| info.job.argument() == id);
        let found = jobs.into_iter().nth(exact.unwrap_or(0));
        let mut info = found.ok_or_else(|| unreadable("scontrol", &output.stdout, "a job"))?;
        info.job = JobId::with_cluster_of(info.job, job);
        Ok(info)
    }

    /// What the accounting knows of a job. It says who cancelled it and how much memory it used at
    /// most, which the controller doesn't, and may be some seconds late.
    ///
    /// # Errors
    ///
    /// [`SlurmError::UnknownJob`] if it doesn't know it, is not kept, or can't be asked.
    pub fn accounting(&self, job: &JobId) -> Result<JobInfo, SlurmError> {
        let unknown = |accounting| SlurmError::UnknownJob { job: job.clone(), accounting };
        let id = format!("--jobs={}", job.argument());
        let format = format!("--format={}", sacct::FORMAT);
        let options = ["--noheader", "--parsable2", &id, &format];
        let output = match self.run("sacct", Some(job), options) {
            Ok(output) => output,
            Err(SlurmError::NoProgram { .. }) => return Err(unknown(Accounting::Off)),
            Err(error) => return Err(unknown(Accounting::Unavailable(error.to_string()))),
        };
        if output.stderr.contains("accounting storage is disabled") {
            return Err(unknown(Accounting::Off));
        }
        match accepted("sacct", output) {
            Ok(output) => {
                sacct::job(&output.stdout, job).ok_or_else(|| unknown(Accounting::NoSuchJob))
            }
            Err(error) => Err(unknown(Accounting::Unavailable(error.to_string()))),
        }
    }

    /// The jobs of a user that the controller knows: those that wait and run, and those that ended in
    /// the last minutes. How they exited and their restarts are not among what is told.
    ///
    /// # Errors
    ///
    /// As of any program.
    pub fn list(&self, user: &str) -> Result<Listed, SlurmError> {
        let (user, format) = (format!("--user={user}"), format!("--format={}", squeue::FORMAT));
        let options = ["--noheader", "--array", "--all", "--states=all", &user, &format];
        let output = accepted("squeue", self.run("squeue", None, options)?)?;
        let mut listed = Listed::default();
        for line in output.stdout.lines().filter(|line| !line.is_empty()) {
            match squeue::job(line) {
                Some(job) => listed.jobs.push(job),
                None => listed.unread.push(excerpt(line)),
            }
        }
        Ok(listed)
    }

    /// Cancels a job. One that is over, or that nobody knows, is left as it is.
    ///
    /// # Errors
    ///
    /// [`SlurmError::Refused`] if it is somebody else's.
    pub fn cancel(&self, job: &JobId) -> Result<(), SlurmError> {
        self.act("scancel", job, [&job.argument()])
    }

    /// Sends a signal, named as in `TERM` or `USR2`, to a job's batch script: its shell, or what that was
    /// replaced by with `exec`.
    ///
    /// # Errors
    ///
    /// [`SlurmError::Refused`], also if the job doesn't run.
    pub fn signal(&self, job: &JobId, signal: &str) -> Result<(), SlurmError> {
        let signal = format!("--signal={signal}");
        self.act("scancel", job, ["--batch", &signal, &job.argument()])
    }

    /// Ends a job and has it start again, not before two minutes or so. A job that is over starts
    /// again, too, as long as the controller remembers it: ask [`show`](Self::show) first.
    ///
    /// # Errors
    ///
    /// [`SlurmError::Refused`], for one if the job was submitted with `--no-requeue`.
    pub fn requeue(&self, job: &JobId) -> Result<(), SlurmError> {
        self.act("scontrol", job, ["requeue", &job.argument()])
    }

    /// The cluster's partitions, those that the user may not use among them.
    ///
    /// # Errors
    ///
    /// As of any program.
    pub fn partitions(&self) -> Result<Vec<Partition>, SlurmError> {
        let format = format!("--format={}", sinfo::FORMAT);
        let output = self.run("sinfo", None, ["--noheader", "--all", &format])?;
        let output = accepted("sinfo", output)?;
        sinfo::partitions(&output.stdout)
            .ok_or_else(|| unreadable("sinfo", &output.stdout, "lines of our format"))
    }

    /// The MPI plugins that srun has, those of a certain version among them: `pmix`, `pmix_v4`, `pmi2`.
    ///
    /// # Errors
    ///
    /// As of any program.
    pub fn mpi_plugins(&self) -> Result<Vec<String>, SlurmError> {
        let output = accepted("srun", self.run("srun", None, ["--mpi=list"])?)?;
        // Before Slurm 22.05 the list went to the other output.
        let plugins = mpi_plugins(&format!("{}\n{}", output.stdout, output.stderr));
        match plugins.is_empty() {
            false => Ok(plugins),
            true => Err(unreadable("srun", &output.stdout, "a list of MPI plugins")),
        }
    }

    fn act<const N: usize>(
        &self,
        program: &str,
        job: &JobId,
        arguments: [&str; N],
    ) -> Result<(), SlurmError> {
        accepted(program, self.run(program, Some(job), arguments)?).map(drop)
    }

    fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        job: Option<&JobId>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Output, SlurmError> {
        let mut command = match &self.programs {
            Some(folder) => Command::new(folder.join(program)),
            None => Command::new(program),
        };
        if let Some(cluster) = job.and_then(JobId::cluster) {
            command.arg(format!("--clusters={cluster}"));
        }
        command.args(arguments);
        if program != "sbatch" {
            command.envs(ENVIRONMENT);
            let names = env::vars_os().map(|(name, _)| name);
            let habit = |name: &std::ffi::OsString| {
                name.to_str().is_some_and(|name| USERS_HABITS.iter().any(|h| name.starts_with(h)))
            };
            names.filter(habit).for_each(|name| {
                command.env_remove(name);
            });
        }
        command::run(command, program, self.timeout)
    }
}

/// The output of a program that succeeded; of another, what it complained about.
fn accepted(program: &str, output: Output) -> Result<Output, SlurmError> {
    if output.status.success() {
        return Ok(output);
    }
    let words = [&output.stderr, &output.stdout].map(|text| text.trim().to_owned());
    let [stderr, stdout] = words;
    let message = if stderr.is_empty() { stdout } else { stderr };
    let (program, status) = (program.to_owned(), output.status);
    if message.is_empty() || status.code().is_none() {
        return Err(SlurmError::Broken { program, status, message });
    }
    match UNREACHABLE.iter().any(|words| message.contains(words)) {
        true => Err(SlurmError::Unreachable { program, message }),
        false => Err(SlurmError::Refused { program, message }),
    }
}

fn unreadable(program: &str, text: &str, expected: &'static str) -> SlurmError {
    SlurmError::Unreadable { program: program.to_owned(), text: excerpt(text.trim()), expected }
}

/// Reads `srun --mpi=list`: a heading, a name on each line, and `... versions available: a,b`.
fn mpi_plugins(text: &str) -> Vec<String> {
    let mut plugins = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches("srun:").trim();
        let names = match line.rsplit_once("versions available:") {
            Some((_, names)) => names,
            None if line.contains([' ', ':']) => continue,
            None => line,
        };
        plugins.extend(names.split(',').map(|name| name.trim().to_owned()));
    }
    plugins.retain(|name| !name.is_empty());
    plugins
}

/// Whether this is a file that can be run.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
