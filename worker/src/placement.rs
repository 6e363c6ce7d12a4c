//! Which cores a rank computes on.

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use shardrun_comm::World;
use shardrun_config::{NodeAllocation, NodeShare, Threads};

/// The processors that this process may use, ascending.
fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot read the processor affinity")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// This rank's part of its node. Ranks that may use the same processors share them out;
/// where whoever started them has bound each to its own, each keeps those. Collective.
pub(crate) fn own_share(world: &World, host: &str, threads: Threads) -> anyhow::Result<NodeShare> {
    let cores = allowed()?;
    let mine = format!("{host} {cores:?}");
    let all = world.all_gather_text(&mine)?;
    let sharers: Vec<usize> = (0..all.len()).filter(|&rank| all[rank] == mine).collect();
    let place = sharers.iter().position(|&rank| rank == world.rank()).unwrap_or(0);
    let usable = std::thread::available_parallelism().map_or(cores.len(), usize::from);
    let node = NodeAllocation {
        host: host.to_owned(),
        cpu_limit: (usable < cores.len()).then_some(usable),
        cores,
    };
    let mut shares = node.share(sharers.len(), threads);
    Ok(shares.swap_remove(place))
}
