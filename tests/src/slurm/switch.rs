//! The network of a cluster: a bridge in a namespace of its own, with a port for each machine, and one
//! for this machine, so that tests reach what listens on nodes.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::holder::Holder;
use super::needs::search_path;
use super::output::said;
use super::subnet::Subnet;
use crate::wait::until;

/// How long a look or a change may take on a loaded machine.
const SOON: Duration = Duration::from_secs(10);

/// The network of a cluster. All links of it end with the namespace that they are in.
#[derive(Debug)]
pub(super) struct Switch {
    /// Sleeps in the namespace.
    holder: Holder,
    subnet: Subnet,
}

impl Switch {
    /// Makes one, in a network that nobody has on this machine.
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]).env("PATH", search_path());
        let holder = Holder::start(command)?;
        let pid = holder.pid();
        let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
        until("a network namespace", SOON, || Ok(network(&pid.to_string())? != network("self")?))?;
        ip_in(pid, "link add name switch type bridge\nlink set switch up\n")?;
        let subnet = claim(pid)?;
        let switch = Self { holder, subnet };
        switch.ip("link set host master switch up\n")?;
        let (link, address) = (subnet.link(), subnet.host());
        ip_here(&["address", "add", &format!("{address}/24"), "dev", &link])?;
        ip_here(&["link", "set", &link, "up"])?;
        Ok(switch)
    }

    /// The process that it ends with.
    pub(super) fn pid(&self) -> i32 {
        self.holder.pid()
    }

    pub(super) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Gives the machine that `process` is in an interface `eth0`.
    pub(super) fn attach(&self, name: &str, process: i32, address: Ipv4Addr) -> anyhow::Result<()> {
        self.ip(&format!(
            "link add name {name} type veth peer name eth0 netns {process}\n\
             link set {name} master switch up\n"
        ))?;
        ip_in(
            process,
            &format!("address add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up\n"),
        )
    }

    /// Takes a machine's cable away, for good.
    pub(super) fn detach(&self, name: &str) -> anyhow::Result<()> {
        self.ip(&format!("link delete {name}\n"))
    }

    /// Pulls a machine's cable out, or plugs it in again.
    pub(super) fn set_plugged(&self, name: &str, plugged: bool) -> anyhow::Result<()> {
        self.ip(&format!("link set {name} {}\n", if plugged { "up" } else { "down" }))
    }

    fn ip(&self, lines: &str) -> anyhow::Result<()> {
        ip_in(self.pid(), lines)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It would go with the namespace, a little later.
        if let Err(error) = ip_here(&["link", "delete", &self.subnet.link()]) {
            eprintln!("{error:#}");
        }
    }
}

/// Takes a network by making this machine's link into it.
fn claim(holder: i32) -> anyhow::Result<Subnet> {
    let routes = fs::read_to_string("/proc/net/route")?;
    for subnet in Subnet::all().filter(|subnet| !subnet.is_routed(&routes)) {
        let (link, here) = (subnet.link(), std::process::id());
        match ip_in(
            holder,
            &format!("link add name host type veth peer name {link} netns {here}\n"),
        ) {
            Ok(()) => return Ok(subnet),
            // Another cluster has it.
            Err(error) if format!("{error:#}").contains("File exists") => {}
            Err(error) => return Err(error),
        }
    }
    bail!("no network in 10.231.0.0/16 is free")
}

/// Runs lines of `ip -batch` in the network namespace of a process.
fn ip_in(process: i32, lines: &str) -> anyhow::Result<()> {
    let mut batch = tempfile::tempfile()?;
    batch.write_all(lines.as_bytes())?;
    batch.rewind()?;
    let mut command = Command::new("nsenter");
    command.args(["--target", &process.to_string(), "--net", "ip", "-batch", "-"]);
    command.env("PATH", search_path()).stdin(batch);
    said(command, SOON).with_context(|| format!("cannot run {lines:?}"))?;
    Ok(())
}

/// Runs `ip` in this machine's own network namespace.
fn ip_here(words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(words).env("PATH", search_path());
    said(command, SOON)?;
    Ok(())
}
