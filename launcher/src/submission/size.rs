//! How many nodes and tasks a deployment's job has.

use serde::Serialize;
use shardrun_config::{Deployment, Threads};

use super::told::Told;

/// The size of a job. Each rank is a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) ntasks_per_node: u32,
    /// `None` leaves it to the site, mostly 1.
    pub(crate) cpus_per_task: Option<u32>,
}

/// Why a job has no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error(
        "slurm.nodes = {nodes} and slurm.ntasks_per_node = {per_node} make room for {} ranks, and the \
         deployment has {ranks}",
        nodes * per_node
    )]
    TooSmall { nodes: usize, per_node: usize, ranks: usize },
    #[error("slurm.nodes = {nodes} are more than the deployment has ranks, {ranks}")]
    IdleNodes { nodes: usize, ranks: usize },
    #[error(
        "{by}: a job array is not possible, as a run has one address, one state and one directory, which \
         its tasks would fight for; serve several instances of the model (model.instances), or submit the \
         deployment once for each"
    )]
    Array { by: String },
}

impl SizeError {
    /// Of a job array, if one is asked for.
    pub(super) fn array(told: &Told) -> Option<Self> {
        told.of("array").map(|said| Self::Array { by: said.by.clone() })
    }
}

impl Size {
    pub(crate) fn of(deployment: &Deployment) -> Result<Self, SizeError> {
        let slurm = &deployment.slurm;
        let ranks = deployment.ranks();
        if let Some(error) = SizeError::array(&Told::new(deployment, &[], |_| None)) {
            return Err(error);
        }
        let (nodes, per_node) = match (slurm.nodes, slurm.ntasks_per_node) {
            (Some(nodes), Some(per_node)) => (nodes, per_node),
            (Some(nodes), None) => (nodes, ranks.div_ceil(nodes)),
            (None, Some(per_node)) => (ranks.div_ceil(per_node), per_node.min(ranks)),
            (None, None) => (1, ranks),
        };
        if nodes.saturating_mul(per_node) < ranks {
            return Err(SizeError::TooSmall { nodes, per_node, ranks });
        }
        if nodes > ranks {
            return Err(SizeError::IdleNodes { nodes, ranks });
        }
        let widest = deployment.models.iter().filter_map(|model| match model.threads {
            Threads::Fixed(threads) => Some(threads),
            Threads::Auto => None,
        });
        let cpus = slurm.cpus_per_task.or(widest.max());
        Ok(Self {
            nodes: count(nodes),
            ntasks_per_node: count(per_node),
            cpus_per_task: cpus.map(count),
        })
    }
}

/// Keys allow far less than fits.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn size(more: &str) -> Result<(u32, u32, Option<u32>), SizeError> {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        Size::of(&deployment).map(|size| (size.nodes, size.ntasks_per_node, size.cpus_per_task))
    }

    #[test]
    fn ranks_share_the_nodes() {
        for (more, expected) in [
            ("", (1, 1, None)),
            ("model.tp_size = 4", (1, 4, None)),
            ("model.tp_size = 4\nslurm.nodes = 2", (2, 2, None)),
            ("model.tp_size = 3\nslurm.nodes = 2", (2, 2, None)),
            ("model.tp_size = 5\nslurm.ntasks_per_node = 2", (3, 2, None)),
            ("model.tp_size = 2\nslurm.ntasks_per_node = 8", (1, 2, None)),
            ("model.tp_size = 2\nmodel.instances = 3\nslurm.nodes = 2", (2, 3, None)),
            ("model.threads = 6", (1, 1, Some(6))),
            ("model.threads = 6\nslurm.cpus_per_task = 8", (1, 1, Some(8))),
        ] {
            assert_eq!(size(more), Ok(expected), "{more}");
        }
    }

    #[test]
    fn what_has_no_room_is_told_in_numbers() {
        let error = |more: &str| size(more).unwrap_err().to_string();
        assert_eq!(
            error("model.tp_size = 5\nslurm.nodes = 2\nslurm.ntasks_per_node = 2"),
            "slurm.nodes = 2 and slurm.ntasks_per_node = 2 make room for 4 ranks, and the deployment \
             has 5"
        );
        assert_eq!(
            error("slurm.nodes = 2"),
            "slurm.nodes = 2 are more than the deployment has ranks, 1"
        );
        let array = error("slurm.array = \"0-3\"");
        assert!(array.starts_with("slurm.array: a job array is not possible"), "{array}");
        assert!(array.contains("model.instances") && array.contains("once for each"), "{array}");
    }
}
