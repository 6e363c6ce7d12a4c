//! The nodes that a deployment may use: those of the Slurm allocation, those that it names, or this one.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use shardrun_config::{Allocation, Deployment, NodeAllocation, Threads};
use shardrun_slurm::Allocation as Job;

/// This machine as a node.
#[derive(Clone, Debug)]
pub(crate) struct ThisNode {
    /// The processors that this process may use.
    pub(crate) allocation: NodeAllocation,
    /// How many ranks mpirun starts without being told to oversubscribe: it counts cores, and
    /// hardware threads of one core as one.
    pub(crate) slots: usize,
}

/// What a deployment has to run on.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub(crate) allocation: Allocation,
    /// This machine, if all ranks go on it and nobody but the deployment says so.
    pub(crate) here: Option<ThisNode>,
    /// How many nodes the Slurm job has, if this process is in one.
    pub(crate) job_nodes: Option<usize>,
}

impl Nodes {
    /// The nodes of `deployment`; `job` is the Slurm job that this process is in, if it is in one.
    pub(crate) fn find(deployment: &Deployment, job: Option<&Job>) -> anyhow::Result<Self> {
        let here = here()?;
        let job_nodes = job.map(|job| job.nodes.len());
        if !deployment.launch.hosts.is_empty() {
            let nodes = deployment.launch.hosts.iter().map(|host| named(host, &here));
            let allocation = Allocation { nodes: nodes.collect::<anyhow::Result<_>>()? };
            return Ok(Self { allocation, here: None, job_nodes });
        }
        if let Some(job) = job {
            let nodes = of_job(job, deployment, &here);
            return Ok(Self { allocation: Allocation { nodes }, here: None, job_nodes });
        }
        let allocation = Allocation { nodes: vec![here.allocation.clone()] };
        Ok(Self { allocation, here: Some(here), job_nodes })
    }
}

/// A node of `launch.hosts`, `host` or `host:slots`. Processors of other nodes are not known here: they
/// are taken to be as many as its slots, or as there are here.
fn named(text: &str, here: &ThisNode) -> anyhow::Result<NodeAllocation> {
    let (host, slots) = match text.rsplit_once(':') {
        Some((host, slots)) => match slots.parse::<usize>() {
            Ok(slots @ 1..=4096) => (host, Some(slots)),
            _ => bail!("launch.hosts has {text:?}: slots are a number from 1 to 4096"),
        },
        None => (text, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        bail!("launch.hosts has {text:?}: expected a host's name, or NAME:SLOTS");
    }
    if host == here.allocation.host || host == "localhost" {
        return Ok(NodeAllocation { slots, ..here.allocation.clone() });
    }
    let cores = match slots {
        Some(slots) => (0..slots).collect(),
        None => here.allocation.cores.clone(),
    };
    Ok(NodeAllocation { host: host.to_owned(), cores, cpu_limit: None, slots })
}

/// The nodes of a job. A step can't have more processors than the job.
fn of_job(job: &Job, deployment: &Deployment, here: &ThisNode) -> Vec<NodeAllocation> {
    let threads = deployment.models.iter().map(|model| match model.threads {
        Threads::Fixed(threads) => threads,
        Threads::Auto => 1,
    });
    let widest = threads.max().unwrap_or(1);
    let node = |(host, &cpus): (&String, &u32)| {
        let cpus = cpus as usize;
        let cores = match *host == here.allocation.host {
            true => here.allocation.cores.clone(),
            false => (0..cpus).collect(),
        };
        let slots = Some((cpus / widest).max(1));
        NodeAllocation { host: host.clone(), cores, cpu_limit: None, slots }
    };
    job.nodes.iter().zip(&job.cpus_per_node).map(node).collect()
}

/// This machine's name.
pub(crate) fn host() -> anyhow::Result<String> {
    let host = nix::unistd::gethostname().context("cannot read this machine's host name")?;
    Ok(host.to_string_lossy().into_owned())
}

/// Looks at this machine, within the affinity and control group that this process was given.
pub(crate) fn here() -> anyhow::Result<ThisNode> {
    let allowed = sched_getaffinity(Pid::from_raw(0))
        .context("cannot read which processors this process may use")?;
    let cores: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    // The standard library counts what the control group allows.
    let usable = std::thread::available_parallelism().map_or(cores.len(), usize::from);
    let slots = cores.iter().map(|&cpu| siblings(cpu)).collect::<BTreeSet<_>>().len();
    Ok(ThisNode {
        allocation: NodeAllocation {
            host: host()?,
            cpu_limit: (usable < cores.len()).then_some(usable),
            cores,
            slots: None,
        },
        slots,
    })
}

/// Names the core that a processor belongs to; where the kernel doesn't say, one of its own.
fn siblings(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).map_or_else(|_| cpu.to_string(), |list| list.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_processors() {
        let node = here().unwrap();
        let cores = &node.allocation.cores;
        assert!(!cores.is_empty() && !node.allocation.host.is_empty());
        assert!(cores.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((1..=cores.len()).contains(&node.slots));
    }
}
