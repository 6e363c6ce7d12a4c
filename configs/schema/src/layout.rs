//! A deployment on an allocation: which rank runs where, on which cores, with how many threads.
//! Pure.

use std::net::SocketAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Deployment, Model, Threads};

/// The nodes that a deployment may use, in the order of their ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// At least one.
    pub nodes: Vec<NodeAllocation>,
}

/// What one node offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAllocation {
    /// The node's name.
    pub host: String,
    /// Processors that may be used, as the operating system numbers them.
    pub cores: Vec<usize>,
    /// How many processors' worth of time may be used, where a control group allows less than
    /// `cores`. Ranks are then not bound, as others may be using the same processors.
    pub cpu_limit: Option<usize>,
    /// How many ranks it may have; `None` if that is not bounded.
    pub slots: Option<usize>,
}

/// Where every rank of a deployment runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The instances, by their numbers.
    pub instances: Vec<InstanceLayout>,
    /// Where the API listens; port 0 for any free one.
    pub http: SocketAddr,
    /// Where `/metrics` is; port 0 for any free one.
    pub metrics: SocketAddr,
}

/// Where the ranks of one instance run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLayout {
    /// The model.
    pub model: String,
    /// One place a rank, in the order of ranks; ranks of one node follow each other.
    pub ranks: Vec<RankPlace>,
}

/// Where one rank runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankPlace {
    /// The rank in its instance's world.
    pub rank: usize,
    /// The node, an index into the allocation.
    pub node: usize,
    /// The node's name.
    pub host: String,
    /// The rank among those of its node, of all instances.
    pub local_rank: usize,
    /// Compute threads.
    pub threads: usize,
    /// The processors that it has to itself, at least one a thread; `None` if the node's ranks
    /// are not bound, because they have more threads than processors or only a share of them.
    pub cores: Option<Vec<usize>>,
    /// The GPU that the deployment names for it.
    pub gpu: Option<u32>,
}

/// Why a deployment can't be laid out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There are no nodes.
    #[error("the allocation has no nodes")]
    NoNodes,
    /// A node has no processors.
    #[error("node {host} offers no processors")]
    NoCores {
        /// The node.
        host: String,
    },
    /// More ranks than places for them.
    #[error(
        "the deployment has {ranks} ranks ({what}) and the allocation has room for {slots}: {nodes}"
    )]
    TooManyRanks {
        /// Ranks of all instances.
        ranks: usize,
        /// How they come about.
        what: String,
        /// Room on all nodes.
        slots: usize,
        /// Room on each node.
        nodes: String,
    },
}

impl Layout {
    /// Places the ranks of `deployment`.
    ///
    /// A single instance goes on all nodes, in contiguous runs of ranks as even as can be, the first
    /// nodes taking one more (srun's block distribution). Of several, each goes on the node with the
    /// most room, and on all nodes if none has room for it. A node's processors are cut into
    /// contiguous, even parts, one for each of its ranks.
    ///
    /// # Errors
    /// [`LayoutError`] if there is no node, one without processors, or no room.
    pub fn new(deployment: &Deployment, allocation: &Allocation) -> Result<Self, LayoutError> {
        let nodes = &allocation.nodes;
        if nodes.is_empty() {
            return Err(LayoutError::NoNodes);
        }
        if let Some(node) = nodes.iter().find(|node| node.cores.is_empty()) {
            return Err(LayoutError::NoCores { host: node.host.clone() });
        }
        check_room(deployment, nodes)?;
        let mut placed = Placed { nodes, ranks: vec![0; nodes.len()] };
        let single = deployment.ranks() == deployment.models[0].tp_size;
        let spots: Vec<_> =
            deployment.instances().map(|model| placed.instance(model.tp_size, single)).collect();
        let shares = |threads| placed.shares(threads);
        let mut numbers = std::collections::HashMap::<&str, usize>::new();
        let instances = deployment.instances().zip(spots).map(|(model, spots)| {
            let number = numbers.entry(&model.name).or_default();
            let gpus = model.gpu_device_ids.of(*number);
            *number += 1;
            let shares = shares(model.threads);
            let ranks = spots.into_iter().enumerate().map(|(rank, Spot { node, local_rank })| {
                let NodeShare { threads, cores } = shares[node][local_rank].clone();
                let host = nodes[node].host.clone();
                let gpu = gpus.and_then(|ids| ids.get(rank).copied());
                RankPlace { rank, node, host, local_rank, threads, cores, gpu }
            });
            InstanceLayout { model: model.name.clone(), ranks: ranks.collect() }
        });
        let server = &deployment.server;
        Ok(Self {
            instances: instances.collect(),
            http: SocketAddr::new(server.host, server.http_port),
            metrics: SocketAddr::new(server.host, server.metrics_port),
        })
    }

    /// All ranks of a node, with the numbers of their instances.
    pub fn on_node(&self, node: usize) -> impl Iterator<Item = (usize, &RankPlace)> {
        let all = self.instances.iter().enumerate();
        all.flat_map(|(number, instance)| instance.ranks.iter().map(move |rank| (number, rank)))
            .filter(move |(_, rank)| rank.node == node)
    }
}

impl InstanceLayout {
    /// Number of ranks.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.ranks.len()
    }

    /// The nodes, each with its number of ranks, in the order of ranks.
    #[must_use]
    pub fn hosts(&self) -> Vec<(&str, usize)> {
        let nodes = self.ranks.chunk_by(|a, b| a.node == b.node);
        nodes.map(|ranks| (ranks[0].host.as_str(), ranks.len())).collect()
    }
}

fn check_room(deployment: &Deployment, nodes: &[NodeAllocation]) -> Result<(), LayoutError> {
    let Some(slots) = nodes.iter().map(|node| node.slots).sum::<Option<usize>>() else {
        return Ok(());
    };
    let ranks = deployment.ranks();
    if ranks <= slots {
        return Ok(());
    }
    let model = |model: &Model| match model.instances {
        1 => format!("{}: {}", model.name, model.tp_size),
        instances => format!("{}: {instances} instances of {}", model.name, model.tp_size),
    };
    let node = |node: &NodeAllocation| format!("{} on {}", node.slots.unwrap_or(0), node.host);
    Err(LayoutError::TooManyRanks {
        ranks,
        what: deployment.models.iter().map(model).collect::<Vec<_>>().join(", "),
        slots,
        nodes: nodes.iter().map(node).collect::<Vec<_>>().join(", "),
    })
}

/// Ranks that have been placed.
struct Placed<'a> {
    nodes: &'a [NodeAllocation],
    /// How many each node has.
    ranks: Vec<usize>,
}

/// A rank's place.
struct Spot {
    node: usize,
    local_rank: usize,
}

impl Placed<'_> {
    fn instance(&mut self, ranks: usize, single: bool) -> Vec<Spot> {
        let room: Vec<_> = (0..self.nodes.len()).map(|node| self.room(node)).collect();
        let widest = (0..room.len()).rev().max_by_key(|&node| room[node]).unwrap_or(0);
        let per_node: Vec<usize> = match single {
            false if room[widest] >= ranks => {
                (0..room.len()).map(|node| if node == widest { ranks } else { 0 }).collect()
            }
            _ => self.spread(ranks, &room),
        };
        let mut spots = Vec::with_capacity(ranks);
        for (node, count) in per_node.into_iter().enumerate() {
            let first = self.ranks[node];
            spots.extend((first..first + count).map(|local_rank| Spot { node, local_rank }));
            self.ranks[node] += count;
        }
        spots
    }

    /// Evenly, as far as there is room; then evenly regardless.
    fn spread(&self, ranks: usize, room: &[usize]) -> Vec<usize> {
        let even: Vec<_> =
            (0..room.len()).map(|node| share(ranks, room.len(), node).len()).collect();
        if even.iter().zip(room).all(|(count, room)| count <= room) {
            return even;
        }
        let mut counts = vec![0; room.len()];
        for _ in 0..ranks {
            let most = |&node: &usize| {
                (room[node].saturating_sub(counts[node]), usize::MAX - counts[node])
            };
            let node = (0..room.len()).rev().max_by_key(most).unwrap_or(0);
            counts[node] += 1;
        }
        counts
    }

    /// How many more ranks a node takes before they must share processors.
    fn room(&self, node: usize) -> usize {
        let on = &self.nodes[node];
        on.slots.unwrap_or(on.cores.len()).saturating_sub(self.ranks[node])
    }

    /// The part of each rank of each node.
    fn shares(&self, threads: Threads) -> Vec<Vec<NodeShare>> {
        self.nodes
            .iter()
            .zip(&self.ranks)
            .map(|(node, &ranks)| node.share(ranks, threads))
            .collect()
    }
}

/// What one rank has of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShare {
    /// Compute threads; at least one.
    pub threads: usize,
    /// Its processors, at least one a thread; `None` when there are more threads than processors.
    pub cores: Option<Vec<usize>>,
}

impl NodeAllocation {
    /// Cuts the node's processors into contiguous, even parts, one for each of `ranks`.
    #[must_use]
    pub fn share(&self, ranks: usize, threads: Threads) -> Vec<NodeShare> {
        let limit = self.cpu_limit.filter(|limit| *limit < self.cores.len());
        let threads = match threads {
            Threads::Fixed(count) => count,
            Threads::Auto => (limit.unwrap_or(self.cores.len()) / ranks.max(1)).max(1),
        };
        let bound = limit.is_none() && threads.saturating_mul(ranks) <= self.cores.len();
        let part = |rank| self.cores[share(self.cores.len(), ranks, rank)].to_vec();
        (0..ranks).map(|rank| NodeShare { threads, cores: bound.then(|| part(rank)) }).collect()
    }
}

/// The part `index` of `0..total` cut into `parts` contiguous parts, the first ones longer by one
/// where it doesn't come out even.
fn share(total: usize, parts: usize, index: usize) -> Range<usize> {
    let (least, longer) = (total / parts, total % parts);
    let start = index * least + index.min(longer);
    start..start + least + usize::from(index < longer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deployment(tp_size: usize, threads: &str) -> Deployment {
        let text = format!(
            "name = \"d\"\n[model]\nsource = \"/m\"\ntp_size = {tp_size}\nthreads = {threads}\n\
             [run]\ndir = \"/r\""
        );
        Deployment::from_resolved_toml(&text).unwrap()
    }

    fn node(host: &str, cores: Range<usize>) -> NodeAllocation {
        let cores = cores.collect();
        NodeAllocation { host: host.to_owned(), cores, cpu_limit: None, slots: None }
    }

    fn layout(tp_size: usize, threads: &str, nodes: Vec<NodeAllocation>) -> Layout {
        Layout::new(&deployment(tp_size, threads), &Allocation { nodes }).unwrap()
    }

    #[test]
    fn two_ranks_halve_a_node() {
        let layout = layout(2, "\"auto\"", vec![node("a", 4..9)]);
        let ranks = &layout.instances[0].ranks;
        let cores: Vec<_> = ranks.iter().map(|rank| rank.cores.clone().unwrap()).collect();
        assert_eq!(cores, [vec![4, 5, 6], vec![7, 8]]);
        assert!(ranks.iter().all(|rank| rank.threads == 2 && rank.host == "a"));
        assert_eq!(layout.instances[0].world_size(), 2);
        assert_eq!((layout.http.port(), layout.metrics.port()), (8000, 8002));
    }

    #[test]
    fn ranks_fill_nodes_in_blocks() {
        let layout = layout(5, "1", vec![node("a", 0..4), node("b", 0..4)]);
        let ranks = &layout.instances[0].ranks;
        let places: Vec<_> =
            ranks.iter().map(|rank| (rank.rank, rank.node, rank.local_rank)).collect();
        assert_eq!(places, [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 1, 0), (4, 1, 1)]);
        assert_eq!(layout.instances[0].hosts(), [("a", 3), ("b", 2)]);
    }

    #[test]
    fn instances_go_where_there_is_room() {
        let text = "name = \"d\"\nmodel.source = \"/m\"\nmodel.threads = 1\nrun.dir = \"/r\"\n\
                    [models.big]\ntp_size = 6\n[models.small]\ntp_size = 2\ninstances = 2\n\
                    gpu_device_ids = \"4,5;6,7\"";
        let deployment = Deployment::from_resolved_toml(text).unwrap();
        let place = |nodes| Layout::new(&deployment, &Allocation { nodes });
        let layout = place(vec![node("a", 0..8), node("b", 0..4)]).unwrap();
        let hosts: Vec<_> = layout.instances.iter().map(InstanceLayout::hosts).collect();
        assert_eq!(hosts, [vec![("a", 6)], vec![("b", 2)], vec![("a", 2)]]);
        let on_a: Vec<_> = layout.on_node(0).collect();
        let cores: Vec<_> = on_a.iter().flat_map(|(_, rank)| rank.cores.clone().unwrap()).collect();
        assert_eq!(cores, (0..8).collect::<Vec<_>>(), "instances share a node's cores");
        assert_eq!(on_a[7].0, 2);
        assert_eq!(on_a[7].1.gpu, Some(7));

        let layout = place(vec![node("a", 0..4), node("b", 0..4)]).unwrap();
        assert_eq!(layout.instances[0].hosts(), [("a", 3), ("b", 3)], "no node takes all of it");

        let few = |cores: Range<usize>| NodeAllocation { slots: Some(4), ..node("a", cores) };
        assert_eq!(
            place(vec![few(0..8), few(0..8)]).unwrap_err().to_string(),
            "the deployment has 10 ranks (big: 6, small: 2 instances of 2) and the allocation has \
             room for 8: 4 on a, 4 on a"
        );
    }

    #[test]
    fn too_many_threads_are_not_bound() {
        for (tp_size, threads) in [(4, "1"), (2, "2"), (4, "\"auto\"")] {
            let layout = layout(tp_size, threads, vec![node("a", 0..2)]);
            let ranks = &layout.instances[0].ranks;
            assert!(ranks.iter().all(|rank| rank.cores.is_none() && rank.threads > 0));
        }
    }

    #[test]
    fn a_cpu_limit_counts_and_unbinds() {
        let limited = NodeAllocation { cpu_limit: Some(4), ..node("a", 0..64) };
        let layout = layout(2, "\"auto\"", vec![limited]);
        let ranks = &layout.instances[0].ranks;
        assert!(ranks.iter().all(|rank| rank.threads == 2 && rank.cores.is_none()));
    }

    #[test]
    fn nodes_without_processors_are_named() {
        let try_on = |nodes| Layout::new(&deployment(1, "1"), &Allocation { nodes }).unwrap_err();
        assert_eq!(try_on(vec![]), LayoutError::NoNodes);
        assert_eq!(
            try_on(vec![node("a", 0..1), node("b", 0..0)]),
            LayoutError::NoCores { host: "b".to_owned() }
        );
    }

    proptest! {
        #[test]
        fn ranks_and_cores_are_a_partition(
            tp_size in 1usize..40, threads in 1usize..5, sizes in prop::collection::vec(1usize..20, 1..6)
        ) {
            let nodes: Vec<_> = sizes.iter().map(|&n| node("n", 10..10 + n)).collect();
            let layout = layout(tp_size, &threads.to_string(), nodes.clone());
            let ranks = &layout.instances[0].ranks;
            prop_assert!(ranks.iter().enumerate().all(|(i, rank)| rank.rank == i));
            prop_assert!(ranks.windows(2).all(|pair| pair[0].node <= pair[1].node));
            prop_assert_eq!(ranks.len(), tp_size);
            for (index, on) in nodes.iter().enumerate() {
                let here: Vec<_> = ranks.iter().filter(|rank| rank.node == index).collect();
                let fits = here.len() * threads <= on.cores.len();
                prop_assert!(here.iter().all(|rank| rank.cores.is_some() == fits));
                if fits && !here.is_empty() {
                    let mut all = Vec::new();
                    for rank in here {
                        let cores = rank.cores.clone().unwrap();
                        prop_assert!(cores.len() >= threads);
                        all.extend(cores);
                    }
                    prop_assert_eq!(&all, &on.cores);
                }
            }
        }
    }
}
