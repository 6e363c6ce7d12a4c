//! A cluster: starting it, hurting it, ending it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::conf::{self, node_name};
use super::folder::Folder;
use super::machine::{INIT, Machine};
use super::needs::{self, Missing};
use super::options::ClusterOptions;
use super::output::{finish, said};
use super::switch::Switch;
use super::user::User;
use crate::programs::program;
use crate::wait::until;

/// How long each step of the start may take: a loaded machine is slow.
const START: Duration = Duration::from_secs(30);

/// A Slurm cluster that runs. Dropping it ends everything, and prints Slurm's logs.
#[derive(Debug)]
pub struct Cluster {
    /// `None` where the power is off.
    nodes: Vec<Option<Machine>>,
    login: Machine,
    switch: Switch,
    folder: Arc<Folder>,
}

/// A cluster, or `None` where this machine lacks what it needs: then says what, and that the test was
/// skipped.
///
/// # Errors
/// If it doesn't start all the same.
pub fn slurm_or_skip(options: &ClusterOptions) -> anyhow::Result<Option<Cluster>> {
    match Cluster::start(options) {
        Ok(cluster) => Ok(Some(cluster)),
        Err(error) if error.is::<Missing>() => {
            println!("skipped: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Cluster {
    /// Starts one; all its nodes are idle then.
    ///
    /// # Errors
    /// [`Missing`] if this machine lacks what it needs; otherwise what failed.
    pub fn start(options: &ClusterOptions) -> anyhow::Result<Self> {
        needs::check()?;
        options.check()?;
        let folder = Arc::new(Folder::create(options)?);
        let switch = Switch::start()?;
        let subnet = switch.subnet();
        let addresses: Vec<(String, Ipv4Addr)> = (1..=options.nodes)
            .map(|number| (node_name(number), subnet.node(number)))
            .chain([("login".to_owned(), subnet.login())])
            .collect();
        let root = folder.root();
        for (name, text) in [
            ("slurm.conf", conf::slurm(options, root, subnet)),
            ("gres.conf", conf::gres(options, root)),
            ("hosts", conf::hosts(&addresses)),
            ("passwd", conf::passwd(root)),
            ("group", conf::group()),
            ("machine.sh", INIT.to_owned()),
        ] {
            folder.write_etc(name, text.as_bytes(), 0o644)?;
        }
        let mut key = [0; 64];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        folder.write_etc("munge.key", &key, 0o400)?;

        let mut machines = Vec::new();
        for (name, address) in addresses {
            machines.push(Machine::start(name, address, Arc::clone(&folder), &switch)?);
        }
        let login = machines.pop().context("the login machine is the last")?;
        let nodes = machines.into_iter().map(Some).collect();
        let cluster = Self { nodes, login, switch, folder };
        cluster.start_daemons()?;
        Ok(cluster)
    }

    fn start_daemons(&self) -> anyhow::Result<()> {
        let path = |name: &str| self.folder.path(name).display().to_string();
        let mut munged = self.command("munged");
        munged
            .arg("--force")
            .arg(format!("--key-file={}", path("etc/munge.key")))
            .arg(format!("--socket={}", path("run/munge.socket")))
            .arg(format!("--pid-file={}", path("run/munged.pid")))
            .arg(format!("--log-file={}", path("log/munged.log")))
            .arg(format!("--seed-file={}", path("run/munged.seed")));
        said(munged, START)?;
        said(self.command("slurmctld"), START)?;
        for node in self.nodes.iter().flatten() {
            said(node.command("slurmd"), START)?;
        }
        until("the controller to answer", START, || {
            Ok(finish(self.command("sinfo"), START)?.status.success())
        })?;
        self.wait_idle(START)
    }

    /// A command that root runs on the login machine: as [`Machine::command_as`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.login.command(program)
    }

    /// A command that `user` runs on the login machine: as [`Machine::command_as`].
    #[must_use]
    pub fn command_as(&self, user: User, program: impl AsRef<OsStr>) -> Command {
        self.login.command_as(user, program)
    }

    /// A command that root runs on node `number`: as [`Machine::command_as`].
    ///
    /// # Errors
    /// As [`Cluster::node`].
    pub fn on_node(&self, number: usize, program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
        Ok(self.node(number)?.command(program))
    }

    /// The machine that users log in to, with the controller on it.
    #[must_use]
    pub fn login(&self) -> &Machine {
        &self.login
    }

    /// Node `number`, of 1 and more.
    ///
    /// # Errors
    /// If there is no such node, or its power is off.
    pub fn node(&self, number: usize) -> anyhow::Result<&Machine> {
        let place = number.checked_sub(1).and_then(|index| self.nodes.get(index));
        let place = place.with_context(|| format!("there is no node {number}"))?;
        place.as_ref().with_context(|| format!("the power of node {number} is off"))
    }

    /// The folder that all machines share, under the same path on this machine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// The home of a user, in that folder: only the user may read it.
    #[must_use]
    pub fn home(&self, user: User) -> PathBuf {
        self.folder.home(user)
    }

    /// Where machines of the cluster have a program that was built beside this test; it is on their
    /// `PATH`, too.
    ///
    /// # Errors
    /// If it wasn't built.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        program(name)?;
        Ok(self.folder.path("programs").join(name))
    }

    /// Where machines of the cluster have what [`ClusterOptions::share`] calls `name`.
    #[must_use]
    pub fn shared(&self, name: &str) -> PathBuf {
        self.folder.path("shared").join(name)
    }

    /// Writes a file into the home of a user, whose it is.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, user: User, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.home(user).join(name);
        fs::write(&path, text)?;
        chown(&path, Some(user.uid()), Some(user.uid()))?;
        Ok(path)
    }

    /// Takes the power of a node away: its network falls silent and its processes are gone.
    ///
    /// # Errors
    /// As [`Cluster::node`].
    pub fn power_off(&mut self, number: usize) -> anyhow::Result<()> {
        let name = self.node(number)?.name().to_owned();
        // The kernel would close its connections, as no machine without power can.
        self.switch.detach(&name)?;
        self.nodes[number - 1] = None;
        Ok(())
    }

    /// Gives a node its power back; it comes up with slurmd, nothing in memory and an empty /tmp.
    ///
    /// # Errors
    /// If there is no such node, its power is on, or it doesn't start.
    pub fn power_on(&mut self, number: usize) -> anyhow::Result<()> {
        let place = number.checked_sub(1).and_then(|index| self.nodes.get_mut(index));
        let place = place.with_context(|| format!("there is no node {number}"))?;
        ensure!(place.is_none(), "the power of node {number} is on");
        let address = self.switch.subnet().node(number);
        let folder = Arc::clone(&self.folder);
        let machine = Machine::start(node_name(number), address, folder, &self.switch)?;
        said(place.insert(machine).command("slurmd"), START)?;
        Ok(())
    }

    /// Pulls a node's network cable out, while its processes go on.
    ///
    /// # Errors
    /// As [`Cluster::node`].
    pub fn unplug(&self, number: usize) -> anyhow::Result<()> {
        self.switch.set_plugged(self.node(number)?.name(), false)
    }

    /// Plugs a node's network cable in again.
    ///
    /// # Errors
    /// As [`Cluster::node`].
    pub fn plug(&self, number: usize) -> anyhow::Result<()> {
        self.switch.set_plugged(self.node(number)?.name(), true)
    }

    /// All processes that it consists of, by their ids on this machine: what runs on its machines, and
    /// what these end with.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let machines = self.nodes.iter().flatten().chain([&self.login]);
        let mut pids: Vec<i32> = machines
            .flat_map(|machine| [machine.everything(), vec![machine.outside()]].concat())
            .collect();
        pids.push(self.switch.pid());
        pids
    }

    fn print_logs(&self) {
        let daemons = (1..=self.nodes.len()).map(|number| format!("slurmd.{}", node_name(number)));
        for daemon in ["slurmctld".to_owned()].into_iter().chain(daemons) {
            let log = fs::read_to_string(self.folder.path(&format!("log/{daemon}.log")));
            println!("{daemon}:\n{}", log.unwrap_or_default());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Shown if the test fails.
        self.print_logs();
    }
}
