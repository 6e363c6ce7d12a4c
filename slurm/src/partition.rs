//! The partitions of a cluster.

use serde::Serialize;

use crate::{SlurmError, TimeLimit};

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Whether jobs that name none go here.
    pub default: bool,
    /// Whether it takes and starts jobs.
    pub up: bool,
    /// How long its jobs may run.
    pub time_limit: Option<TimeLimit>,
    /// The most nodes that a job may have, if there is such a limit.
    pub max_nodes: Option<u32>,
    /// Its nodes; those that are alike are together.
    pub groups: Vec<NodeGroup>,
}

/// Nodes of a partition that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeGroup {
    /// Their names, as a host list.
    pub nodes: String,
    /// How many they are.
    pub count: u32,
    /// How many of them are idle.
    pub idle: u32,
    /// CPUs of each.
    pub cpus: Option<u32>,
    /// Memory of each, in bytes.
    pub memory_bytes: Option<u64>,
    /// What else each has: `gpu:2`.
    pub gres: Option<String>,
}

impl Partition {
    /// How many nodes it has.
    #[must_use]
    pub fn num_nodes(&self) -> u32 {
        self.groups.iter().map(|group| group.count).sum()
    }
}

impl NodeGroup {
    /// GPUs of each node: those of `gpu:2` and of `gpu:h100:4(S:0-1),gpu:a100:2` alike.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.gres.as_deref().map_or(0, gpus_of)
    }
}

/// The GPUs in a list of generic resources, in either of Slurm's spellings: `gpu:h100:4`,
/// `gres:gpu:1` and `gres/gpu=4`. A type is counted; a bare `gpu` is one.
#[must_use]
pub fn gpus_of(gres: &str) -> u32 {
    let mut gpus: u32 = 0;
    let mut depth = 0;
    // Commas also stand within brackets: gpu:4(IDX:0-1,3).
    let entries = gres.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    for entry in entries {
        let entry = entry.split('(').next().unwrap_or_default();
        let entry = entry.strip_prefix("gres:").or(entry.strip_prefix("gres/")).unwrap_or(entry);
        let Some(rest) = entry.strip_prefix("gpu") else { continue };
        let count = match rest.rsplit([':', '=']).next() {
            Some(number) if rest.starts_with([':', '=']) => number.parse().unwrap_or(1),
            _ if rest.is_empty() => 1,
            _ => continue, // gpumem or the like
        };
        gpus = gpus.saturating_add(count);
    }
    gpus
}

/// The partitions of `names`, which may be several between commas.
///
/// # Errors
///
/// [`SlurmError::UnknownPartition`] for the first that doesn't exist, with those that do.
pub fn find_partitions<'a>(
    partitions: &'a [Partition],
    names: &str,
) -> Result<Vec<&'a Partition>, SlurmError> {
    let find = |name: &str| {
        partitions.iter().find(|partition| partition.name == name).ok_or_else(|| {
            let known = partitions.iter().map(|partition| partition.name.clone()).collect();
            SlurmError::UnknownPartition { name: name.to_owned(), known }
        })
    };
    names.split(',').map(|name| find(name.trim())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_counted_in_every_spelling() {
        for (gres, gpus) in [
            ("gpu:2", 2),
            ("gpu", 1),
            ("gpu:h100:4(S:0-1)", 4),
            ("gpu:a100:2,gpu:h100:4", 6),
            ("gpu:4(IDX:0-1,3),nvme:1", 4),
            ("gres:gpu:1", 1),
            ("gres/gpu=4", 4),
            ("gres/gpu:a100=2", 2),
            ("gpu:a100", 1),
            ("shard:8,gpumem:80", 0),
            ("", 0),
        ] {
            assert_eq!(gpus_of(gres), gpus, "{gres}");
        }
    }

    #[test]
    fn a_partition_that_is_not_there_is_named_with_those_that_are() {
        let of = |name: &str| Partition {
            name: name.into(),
            default: false,
            up: true,
            time_limit: None,
            max_nodes: None,
            groups: Vec::new(),
        };
        let partitions = [of("short"), of("main")];
        let found = find_partitions(&partitions, "main, short").unwrap();
        assert_eq!(found, [&partitions[1], &partitions[0]]);
        assert_eq!(
            find_partitions(&partitions, "main,gpu").unwrap_err().to_string(),
            "partition \"gpu\" does not exist; there are: short, main"
        );
    }
}
