//! A machine of a cluster: the namespaces that make it one, and what runs in them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::Folder;
use super::holder::Holder;
use super::needs::search_path;
use super::switch::Switch;
use super::user::User;
use crate::wait::{until, until_some};

/// The first process of a machine.
pub(super) const INIT: &str = include_str!("machine.sh");
/// How long the end of a machine may take.
const END: Duration = Duration::from_secs(10);

/// A machine of a cluster: the login machine, or a node. Dropping it kills all that runs there.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: Ipv4Addr,
    folder: Arc<Folder>,
    /// Its first process, as this machine numbers it.
    init: i32,
    /// That one's parent, outside.
    outside: Holder,
}

impl Machine {
    /// Starts it, attached to the network.
    pub(super) fn start(
        name: String,
        address: Ipv4Addr,
        folder: Arc<Folder>,
        switch: &Switch,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--uts", "--ipc", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL"])
            .arg("sh")
            .args([&folder.path("etc/machine.sh"), Path::new(&name), folder.root()]);
        for (source, target) in folder.mounts() {
            command.arg(source).arg(target);
        }
        let errors = folder.path(&format!("log/{name}.err"));
        command
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?);
        let mut outside = Holder::start(command)?;
        let stdout = outside.child().stdout.take().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let init = line.trim().parse().with_context(|| {
            format!("{name} didn't start: {}", fs::read_to_string(&errors).unwrap_or_default())
        })?;
        let machine = Self { name, address, folder, init, outside };
        switch.attach(&machine.name, init, address)?;
        Ok(machine)
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, which this machine reaches as well.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where this machine sees that one's files: its /dev/shm is `dev/shm` there.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// A command that root runs on it: as [`Machine::command_as`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_as(User::Root, program)
    }

    /// A command that `user` runs on it, in the user's home, with nothing on standard input and an
    /// environment that has only what a user of the cluster has. The child is an `nsenter` outside the
    /// machine: killing that kills the program, other signals must go to the program itself, which
    /// [`started_by`] finds.
    #[must_use]
    pub fn command_as(&self, user: User, program: impl AsRef<OsStr>) -> Command {
        let folder = &self.folder;
        let home = folder.home(user);
        let (init, uid) = (self.init.to_string(), user.uid().to_string());
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &init, "--uts", "--ipc", "--net", "--mount", "--pid"])
            .args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"])
            .args(["--pdeathsig", "KILL", "env"])
            .arg(format!("--chdir={}", home.display()))
            .arg(program)
            .env_clear()
            .env("PATH", format!("{}:{}", folder.path("programs").display(), search_path()))
            .env("HOME", home)
            .env("USER", user.name())
            .env("LOGNAME", user.name())
            .env("SHELL", "/bin/sh")
            .env("SLURM_CONF", folder.path("etc/slurm.conf"))
            .stdin(Stdio::null());
        // Where an MPI of this machine's own is.
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if user == User::Root {
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
                command.env(name, "1");
            }
        }
        command
    }

    /// The living processes there that were started as `program`, a name without folders, by their ids
    /// on this machine.
    #[must_use]
    pub fn pids(&self, program: &str) -> Vec<i32> {
        let named = |pid: &i32| {
            let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
            let first = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            // Servers put more behind their names.
            let text = String::from_utf8_lossy(first);
            let path = text.split(": ").next().unwrap_or_default();
            Path::new(path).file_name().is_some_and(|name| name == program)
        };
        self.everything().into_iter().filter(named).collect()
    }

    /// The process outside that the machine ends with.
    pub(super) fn outside(&self) -> i32 {
        self.outside.pid()
    }

    /// All processes there, by their ids on this machine.
    #[must_use]
    pub fn everything(&self) -> Vec<i32> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(own) = namespace(self.init) else { return Vec::new() };
        all_pids().into_iter().filter(|pid| namespace(*pid).as_ref() == Some(&own)).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kernel kills the rest before the first process is gone.
        let killed = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        let outside = self.outside.child();
        let ended = until("a machine to end", END, || Ok(outside.try_wait()?.is_some()));
        if let (Err(error), _) | (_, Err(error)) = (killed.map_err(anyhow::Error::from), ended) {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

/// The program that runs on a cluster's machine for `child`, a [`Machine::command`] that was spawned, by
/// its id on this machine.
///
/// # Errors
/// If it doesn't run.
pub fn started_by(child: &Child) -> anyhow::Result<i32> {
    let parent = Some(child.id().to_string());
    let runs = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        // Those that it is started through become it.
        let through =
            field("Name").is_some_and(|name| ["nsenter", "setpriv", "env"].contains(&name));
        field("PPid") == parent.as_deref() && !through
    };
    until_some("a program to run", END, || Ok(all_pids().into_iter().find(runs)))
}

fn all_pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
