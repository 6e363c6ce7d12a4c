//! Which cores a rank computes on.

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use shardrun_comm::World;
use shardrun_config::{Layout, Model, NodeAllocation, NodeShare, RankPlace, Threads};

use crate::environment::Environment;

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

/// This rank's place, where all instances of a deployment share nodes out by `layout`.
pub(crate) fn place(layout: &Layout, instance: usize, rank: usize) -> anyhow::Result<&RankPlace> {
    let of_instance = layout.instances.get(instance);
    let place = of_instance.and_then(|instance| instance.ranks.get(rank));
    place.with_context(|| format!("the layout has no rank {rank} of instance {instance}"))
}

/// This rank's part of its node, by its place.
pub(crate) fn laid_out(
    layout: &Layout,
    place: &RankPlace,
    host: &str,
    model: &Model,
) -> anyhow::Result<NodeShare> {
    let sharers = layout.on_node(place.node).count();
    let shares = this_node(host)?.share(sharers, model.threads);
    let share = shares.into_iter().nth(place.local_rank);
    share.with_context(|| format!("the layout has local rank {} of {sharers}", place.local_rank))
}

/// The GPU of a rank: the one that the deployment names, as `shardrun plan` shows it, else the one of
/// its place among all ranks of its node.
pub(crate) fn gpu(
    named: Option<u32>,
    local_rank: usize,
    environment: &Environment,
) -> Option<String> {
    let by_place = || environment.gpu(local_rank).map(str::to_owned);
    named.map(|gpu| gpu.to_string()).or_else(by_place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::{Allocation, Deployment};

    use super::*;

    #[test]
    fn the_gpu_of_a_rank_is_the_named_one_or_that_of_its_place_on_the_node() {
        let text = "name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n\
                    [models.named]\ntp_size = 2\ngpu_device_ids = \"7,5\"\n\
                    [models.other]\ninstances = 2";
        let deployment = Deployment::from_resolved_toml(text).unwrap();
        let cores = (0..4).collect();
        let node = NodeAllocation { host: "a".into(), cores, cpu_limit: None, slots: None };
        let layout = Layout::new(&deployment, &Allocation { nodes: vec![node] }).unwrap();
        let seen = |name: &str| (name == "CUDA_VISIBLE_DEVICES").then(|| "0,1,2,3".to_owned());
        let environment = Environment::read(seen, 1).unwrap();
        let gpu = |instance, rank| {
            let place = place(&layout, instance, rank).unwrap();
            gpu(place.gpu, place.local_rank, &environment)
        };
        let gpus = [(0, 0), (0, 1), (1, 0), (2, 0)].map(|(instance, rank)| gpu(instance, rank));
        assert_eq!(gpus.map(Option::unwrap), ["7", "5", "2", "3"]);
    }
}
