//! A deployment on an allocation: which rank runs where, on which cores, with how many threads.
//! Pure.

use std::net::SocketAddr;
use std::ops::Range;

use crate::{Deployment, ShmPrefix, Threads};

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
}

/// Where every rank of a deployment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// One place a rank, in the order of ranks.
    pub ranks: Vec<RankPlace>,
    /// Where the API listens; port 0 for any free one.
    pub http: SocketAddr,
    /// Where `/metrics` is; port 0 for any free one.
    pub metrics: SocketAddr,
}

/// Where one rank runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankPlace {
    /// The rank in the world.
    pub rank: usize,
    /// The node, an index into the allocation.
    pub node: usize,
    /// The node's name.
    pub host: String,
    /// The rank among those of its node.
    pub local_rank: usize,
    /// Compute threads.
    pub threads: usize,
    /// The processors that it has to itself, at least one a thread; `None` if the node's ranks
    /// are not bound, because they have more threads than processors or only a share of them.
    pub cores: Option<Vec<usize>>,
    /// What the rank's shared-memory names begin with; `None` until the run has an id.
    pub shm_prefix: Option<String>,
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
}

impl Layout {
    /// Places the ranks of `deployment`: contiguous runs of ranks on each node, as even as can be,
    /// the first nodes taking one more (srun's block distribution). A node's
    /// processors are cut into contiguous, even parts, one a rank.
    ///
    /// # Errors
    /// [`LayoutError`] if there is no node, or one without processors.
    pub fn new(deployment: &Deployment, allocation: &Allocation) -> Result<Self, LayoutError> {
        if allocation.nodes.is_empty() {
            return Err(LayoutError::NoNodes);
        }
        if let Some(node) = allocation.nodes.iter().find(|node| node.cores.is_empty()) {
            return Err(LayoutError::NoCores { host: node.host.clone() });
        }
        let world_size = deployment.model.tp_size;
        let shm_prefix = deployment.run.shm_prefix.as_ref();
        let mut ranks = Vec::with_capacity(world_size);
        for (node, on) in allocation.nodes.iter().enumerate() {
            let here = share(world_size, allocation.nodes.len(), node);
            let spot = Spot { node, on, shm_prefix };
            ranks.extend(spot.places(here, deployment.model.threads));
        }
        let server = &deployment.server;
        Ok(Self {
            ranks,
            http: SocketAddr::new(server.host, server.http_port),
            metrics: SocketAddr::new(server.host, server.metrics_port),
        })
    }

    /// Number of ranks.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.ranks.len()
    }

    /// Number of ranks on a node.
    #[must_use]
    pub fn ranks_on(&self, node: usize) -> usize {
        self.ranks.iter().filter(|rank| rank.node == node).count()
    }
}

struct Spot<'a> {
    node: usize,
    on: &'a NodeAllocation,
    shm_prefix: Option<&'a ShmPrefix>,
}

impl Spot<'_> {
    fn places(&self, ranks: Range<usize>, threads: Threads) -> Vec<RankPlace> {
        let shares = self.on.share(ranks.len(), threads);
        let placed = ranks.zip(shares).enumerate();
        placed
            .map(|(local_rank, (rank, NodeShare { threads, cores }))| RankPlace {
                rank,
                node: self.node,
                host: self.on.host.clone(),
                local_rank,
                threads,
                cores,
                shm_prefix: self.shm_prefix.map(|prefix| prefix.of_rank(rank)),
            })
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
             [run]\ndir = \"/r\"\nshm_prefix = \"p_\""
        );
        Deployment::from_resolved_toml(&text).unwrap()
    }

    fn node(host: &str, cores: Range<usize>) -> NodeAllocation {
        NodeAllocation { host: host.to_owned(), cores: cores.collect(), cpu_limit: None }
    }

    fn layout(tp_size: usize, threads: &str, nodes: Vec<NodeAllocation>) -> Layout {
        Layout::new(&deployment(tp_size, threads), &Allocation { nodes }).unwrap()
    }

    #[test]
    fn two_ranks_halve_a_node() {
        let layout = layout(2, "\"auto\"", vec![node("a", 4..9)]);
        let cores: Vec<_> = layout.ranks.iter().map(|rank| rank.cores.clone().unwrap()).collect();
        assert_eq!(cores, [vec![4, 5, 6], vec![7, 8]]);
        assert!(layout.ranks.iter().all(|rank| rank.threads == 2 && rank.host == "a"));
        assert_eq!(layout.ranks[1].shm_prefix.as_deref(), Some("p_1_"));
        assert_eq!(layout.world_size(), 2);
        assert_eq!((layout.http.port(), layout.metrics.port()), (8000, 8002));
    }

    #[test]
    fn ranks_fill_nodes_in_blocks() {
        let layout = layout(5, "1", vec![node("a", 0..4), node("b", 0..4)]);
        let places: Vec<_> =
            layout.ranks.iter().map(|rank| (rank.rank, rank.node, rank.local_rank)).collect();
        assert_eq!(places, [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 1, 0), (4, 1, 1)]);
        assert_eq!((layout.ranks_on(0), layout.ranks_on(1)), (3, 2));
    }

    #[test]
    fn too_many_threads_are_not_bound() {
        for (tp_size, threads) in [(4, "1"), (2, "2"), (4, "\"auto\"")] {
            let layout = layout(tp_size, threads, vec![node("a", 0..2)]);
            assert!(layout.ranks.iter().all(|rank| rank.cores.is_none() && rank.threads > 0));
        }
    }

    #[test]
    fn a_cpu_limit_counts_and_unbinds() {
        let limited = NodeAllocation { cpu_limit: Some(4), ..node("a", 0..64) };
        let layout = layout(2, "\"auto\"", vec![limited]);
        assert!(layout.ranks.iter().all(|rank| rank.threads == 2 && rank.cores.is_none()));
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
            prop_assert!(layout.ranks.iter().enumerate().all(|(i, rank)| rank.rank == i));
            prop_assert_eq!(layout.world_size(), tp_size);
            for (index, on) in nodes.iter().enumerate() {
                let here: Vec<_> = layout.ranks.iter().filter(|rank| rank.node == index).collect();
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
