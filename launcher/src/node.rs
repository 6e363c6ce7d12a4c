//! What this machine offers to ranks.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use shardrun_config::NodeAllocation;

/// This machine as a node.
#[derive(Debug)]
pub(crate) struct ThisNode {
    /// The processors that this process may use.
    pub(crate) allocation: NodeAllocation,
    /// How many ranks mpirun starts without being told to oversubscribe: it counts cores, and
    /// hardware threads of one core as one.
    pub(crate) slots: usize,
}

/// Looks at this machine, within the affinity and control group that this process was given.
pub(crate) fn here() -> anyhow::Result<ThisNode> {
    let host = nix::unistd::gethostname().context("cannot read this machine's host name")?;
    let allowed = sched_getaffinity(Pid::from_raw(0))
        .context("cannot read which processors this process may use")?;
    let cores: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    // The standard library counts what the control group allows.
    let usable = std::thread::available_parallelism().map_or(cores.len(), usize::from);
    let slots = cores.iter().map(|&cpu| siblings(cpu)).collect::<BTreeSet<_>>().len();
    Ok(ThisNode {
        allocation: NodeAllocation {
            host: host.to_string_lossy().into_owned(),
            cpu_limit: (usable < cores.len()).then_some(usable),
            cores,
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
