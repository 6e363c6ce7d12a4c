//! `sinfo`, in a format of our own: a line for the nodes of a partition that are alike.

use super::{fields, given};
use crate::memory::parse_request;
use crate::{NodeGroup, Partition};

/// What sinfo is to write: the name with a star on the default one, up or down, the time limit,
/// how many nodes a job may have, nodes by state, CPUs, memory, generic resources, names.
pub(crate) const FORMAT: &str = "%P|%a|%l|%s|%F|%c|%m|%G|%N";

/// Reads all lines. `None` if one is not in [`FORMAT`].
pub(crate) fn partitions(text: &str) -> Option<Vec<Partition>> {
    let mut partitions: Vec<Partition> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let [name, up, time_limit, job_size, counts, cpus, memory, gres, nodes] = fields(line)?;
        let (name, default) = match name.strip_suffix('*') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let counts: Vec<u32> = counts.split('/').map(str::parse).collect::<Result<_, _>>().ok()?;
        let &[_, idle, _, count] = &counts[..] else { return None };
        if !partitions.iter().any(|partition| partition.name == name) {
            partitions.push(Partition {
                name: name.to_owned(),
                default,
                up: up == "up",
                time_limit: time_limit.parse().ok(),
                max_nodes: job_size.rsplit('-').next().and_then(|most| most.parse().ok()),
                groups: Vec::new(),
            });
        }
        // A plus says that some nodes have more.
        let least = |text: &str| text.trim_end_matches('+').to_owned();
        let group = NodeGroup {
            nodes: nodes.to_owned(),
            count,
            idle,
            cpus: least(cpus).parse().ok(),
            memory_bytes: parse_request(&least(memory)),
            gres: given(gres),
        };
        let partition = partitions.iter_mut().find(|partition| partition.name == name)?;
        // A partition without nodes has a line, too.
        if group.count > 0 {
            partition.groups.push(group);
        }
    }
    Some(partitions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../tests/recorded/sinfo.txt");

    #[test]
    fn partitions_have_limits_and_nodes() {
        let partitions = partitions(RECORDED).unwrap();
        let names: Vec<_> = partitions.iter().map(|partition| &partition.name[..]).collect();
        assert_eq!(names, ["short", "off", "main"]);
        let [short, off, main] = &partitions[..] else { panic!("three") };
        assert_eq!((short.max_nodes, short.num_nodes(), short.up), (Some(1), 2, true));
        assert_eq!(short.time_limit.unwrap().to_string(), "00:30:00");
        assert_eq!((off.up, off.time_limit.unwrap().to_string()), (false, "1-12:00:00".into()));
        assert_eq!((main.default, main.max_nodes, main.num_nodes()), (true, None, 3));
        let group = &main.groups[0];
        assert_eq!((group.gpus(), group.cpus, group.memory_bytes), (2, Some(2), Some(4000 << 20)));
        assert_eq!(group.nodes, "n[1-3]");
    }

    #[test]
    fn unlike_nodes_of_one_partition_are_apart() {
        let text = "gpu|up|infinite|1-infinite|1/2/0/3|64+|512000+|gpu:h100:8(S:0-1)|g[1-3]\n\
                    gpu|up|infinite|1-infinite|0/1/1/2|32|256000|(null)|c[1-2]\n\
                    none|up|1:00|1|0/0/0/0|0|0|(null)|\n";
        let partitions = partitions(text).unwrap();
        let [gpu, none] = &partitions[..] else { panic!("two") };
        assert_eq!((gpu.num_nodes(), gpu.groups[0].gpus(), gpu.groups[1].gpus()), (5, 8, 0));
        assert_eq!((gpu.groups[0].cpus, gpu.groups[0].idle), (Some(64), 2));
        assert!(none.groups.is_empty());
    }

    #[test]
    fn something_else_is_not_taken_for_partitions() {
        assert_eq!(partitions("PARTITION AVAIL"), None);
        assert_eq!(partitions("a|up|1|1|x|1|1||n1"), None);
        assert_eq!(partitions("").unwrap(), []);
    }
}
