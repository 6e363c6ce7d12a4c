//! The command that starts an instance's ranks under Open MPI's mpirun. Pure.

use std::ffi::OsString;
use std::path::Path;

use shardrun_config::{InstanceLayout, Launch};

/// Open MPI's parameters of what ranks, and what its daemons, say to each other.
pub(super) const TRANSPORTS: [&str; 2] = ["btl_tcp_if_include", "oob_tcp_if_include"];

/// What the command is made of.
#[derive(Debug)]
pub(crate) struct Mpirun<'a> {
    /// The mpirun to run.
    pub(crate) program: &'a Path,
    /// Where the ranks go.
    pub(crate) layout: &'a InstanceLayout,
    /// Ranks that mpirun would start on this node without being told to oversubscribe; `None` if they
    /// go to nodes that are named, each with its number of ranks.
    pub(crate) slots: Option<usize>,
    /// The network between nodes, as Open MPI names it, if one is to be taken.
    pub(crate) network: Option<&'a str>,
    /// The user; mpirun wants root to say so.
    pub(crate) uid: u32,
    /// What the deployment says about it.
    pub(crate) launch: &'a Launch,
    /// The command of each rank.
    pub(crate) worker: &'a [OsString],
}

impl Mpirun<'_> {
    /// The command, program first.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        let mut argv = vec![self.program.into()];
        let mut add = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        let ranks = self.layout.world_size();
        // Ranks bind their own threads: mpirun would bind all of a rank's to one core.
        add(&["-n", &ranks.to_string(), "--bind-to", "none"]);
        match self.slots {
            Some(slots) if ranks > slots => add(&["--oversubscribe"]),
            Some(_) => {}
            None => {
                let hosts = self.layout.hosts();
                let hosts: Vec<_> = hosts.iter().map(|(host, n)| format!("{host}:{n}")).collect();
                add(&["--host", &hosts.join(","), "--map-by", "slot"]);
            }
        }
        if let Some(network) = self.network.filter(|_| self.slots.is_none()) {
            for transport in TRANSPORTS {
                add(&["--mca", transport, network]);
            }
        }
        if self.uid == 0 {
            add(&["--allow-run-as-root"]);
        }
        for name in self.launch.export.iter().filter(|_| self.slots.is_none()) {
            add(&["-x", name]);
        }
        argv.extend(self.launch.mpirun_args.iter().map(OsString::from));
        argv.extend(self.worker.iter().cloned());
        argv
    }
}

/// A command as one line for a POSIX shell.
pub(crate) fn shell_line(argv: &[OsString]) -> String {
    let word = |word: &OsString| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word.into_owned(),
            // Only a NUL can't be quoted, nor be in an argument.
            false => shlex::try_quote(&word).map_or_else(|_| word.to_string(), Into::into),
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::{Allocation, Deployment, Layout, NodeAllocation};

    use super::*;

    fn line(text: &str, hosts: &[&str], slots: Option<usize>, uid: u32) -> String {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{text}");
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let node = |host: &&str| NodeAllocation {
            host: (*host).to_owned(),
            cores: vec![0, 1],
            cpu_limit: None,
            slots: None,
        };
        let allocation = Allocation { nodes: hosts.iter().map(node).collect() };
        let layout = Layout::new(&deployment, &allocation).unwrap();
        let command = Mpirun {
            program: Path::new("mpirun"),
            layout: &layout.instances[0],
            slots,
            network: deployment.launch.interface.as_deref(),
            uid,
            launch: &deployment.launch,
            worker: &["/opt/shardrun-worker".into(), "--config".into(), "/my runs/d.toml".into()],
        };
        shell_line(&command.argv())
    }

    #[test]
    fn ranks_that_have_cores_are_simply_started() {
        assert_eq!(
            line("model.tp_size = 2\nlaunch.export = [\"A\"]", &["a"], Some(2), 1000),
            "mpirun -n 2 --bind-to none /opt/shardrun-worker --config '/my runs/d.toml'"
        );
    }

    #[test]
    fn root_and_more_ranks_than_cores_are_said() {
        assert_eq!(
            line("model.tp_size = 2\nlaunch.mpirun_args = [\"--mca\", \"b\"]", &["a"], Some(1), 0),
            "mpirun -n 2 --bind-to none --oversubscribe --allow-run-as-root --mca b \
             /opt/shardrun-worker --config '/my runs/d.toml'"
        );
    }

    #[test]
    fn nodes_are_named_with_their_ranks() {
        let text = "model.tp_size = 3\n[launch]\ninterface = \"ib0\"\nexport = [\"A\"]";
        assert_eq!(
            line(text, &["a", "b"], None, 1000),
            "mpirun -n 3 --bind-to none --host a:2,b:1 --map-by slot --mca btl_tcp_if_include ib0 \
             --mca oob_tcp_if_include ib0 -x A /opt/shardrun-worker --config '/my runs/d.toml'"
        );
    }
}
