//! Which cores a rank computes on.

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use shardrun_comm::World;
use shardrun_config::{Layout, Model, NodeAllocation, NodeShare, Threads};

/// The processors that this process may use, ascending.
fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot read the processor affinity")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

fn this_node(host: &str) -> anyhow::Result<NodeAllocation> {
    let cores = allowed()?;
    let usable = std::thread::available_parallelism().map_or(cores.len(), usize::from);
    let cpu_limit = (usable < cores.len()).then_some(usable);
    Ok(NodeAllocation { host: host.to_owned(), cpu_limit, cores, slots: None })
}

/// This rank's part of its node. Ranks that may use the same processors share them out;
/// where whoever started them has bound each to its own, each keeps those. Collective.
pub(crate) fn own_share(world: &World, host: &str, threads: Threads) -> anyhow::Result<NodeShare> {
    let cores = allowed()?;
    let mine = format!("{host} {cores:?}");
    let all = world.all_gather_text(&mine)?;
    let sharers: Vec<usize> = (0..all.len()).filter(|&rank| all[rank] == mine).collect();
    let place = sharers.iter().position(|&rank| rank == world.rank()).unwrap_or(0);
    let mut shares = this_node(host)?.share(sharers.len(), threads);
    Ok(shares.swap_remove(place))
}

/// This rank's part of its node, where all instances of a deployment share nodes out by `layout`.
pub(crate) fn laid_out(
    layout: &Layout,
    instance: usize,
    rank: usize,
    host: &str,
    model: &Model,
) -> anyhow::Result<NodeShare> {
    let of_instance = layout.instances.get(instance);
    let place = of_instance.and_then(|instance| instance.ranks.get(rank));
    let place =
        place.with_context(|| format!("the layout has no rank {rank} of instance {instance}"))?;
    let sharers = layout.on_node(place.node).count();
    let shares = this_node(host)?.share(sharers, model.threads);
    let share = shares.into_iter().nth(place.local_rank);
    share.with_context(|| format!("the layout has local rank {} of {sharers}", place.local_rank))
}
