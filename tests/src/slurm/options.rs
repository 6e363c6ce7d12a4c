//! What a cluster is made of.

use std::path::PathBuf;

use anyhow::ensure;

/// Nodes that the addresses of a cluster are enough for, and then some.
const MOST_NODES: usize = 16;

/// What a cluster is made of. Nodes, processors, memory and GPUs are what Slurm believes: the nodes
/// share those that this machine has.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes, 1 to 16; they are called n1, n2 and so on.
    pub nodes: usize,
    /// Processors of a node.
    pub cpus: usize,
    /// Memory of a node, MiB.
    pub memory_mib: usize,
    /// GPUs of a node, as the generic resource `gpu`; their device files do nothing.
    pub gpus: usize,
    /// SlurmdTimeout: how long a node may be silent until its jobs are given up, seconds. When that is
    /// noticed depends on MessageTimeout, too, 10 s by default: how long an unanswered ping takes.
    pub slurmd_timeout_s: u32,
    /// KillWait: time between SIGTERM and SIGKILL, seconds.
    pub kill_wait_s: u32,
    /// More lines of slurm.conf, of keys that aren't there already.
    pub conf: String,
    /// Files and folders of this machine that the cluster's machines see, too, each with its name
    /// there: [`Cluster::shared`](super::Cluster::shared) gives the path. They can't be written to.
    pub shared: Vec<(String, PathBuf)>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            cpus: 4,
            memory_mib: 4000,
            gpus: 2,
            slurmd_timeout_s: 10,
            kill_wait_s: 3,
            conf: String::new(),
            shared: Vec::new(),
        }
    }
}

impl ClusterOptions {
    /// Lets the cluster's machines see `path` of this machine as `name`.
    #[must_use]
    pub fn share(mut self, name: &str, path: impl Into<PathBuf>) -> Self {
        self.shared.push((name.to_owned(), path.into()));
        self
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Self { nodes, cpus, gpus, .. } = self;
        ensure!((1..=MOST_NODES).contains(nodes), "a cluster of {nodes} nodes; 1 to {MOST_NODES}");
        ensure!((1..=1024).contains(cpus), "nodes of {cpus} processors; 1 to 1024");
        ensure!(*gpus <= 64, "nodes of {gpus} GPUs; at most 64");
        Ok(())
    }
}
