//! What a job asks of its partition, in numbers, before sbatch is asked: Slurm takes many a job that can
//! never start.

use shardrun_config::Deployment;
use shardrun_slurm::{
    NodeGroup, Partition, SlurmError, TimeLimit, find_partitions, gpus_of, human, parse_request,
};

use super::Size;

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    partitions: Option<String>,
    nodes: u32,
    tasks: u32,
    cpus_per_task: u32,
    gpus: u32,
    memory_bytes: Option<u64>,
    time: Option<TimeLimit>,
}

/// Why a job can't run in any partition that it may go to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("slurm.partition: {0}")]
    NoSuchPartition(SlurmError),
    #[error("{}", .0.join("\n"))]
    TooMuch(Vec<String>),
}

impl Demand {
    /// That of a deployment with the size `size`, whose script is submitted with the further arguments
    /// `options`.
    pub(crate) fn of(deployment: &Deployment, size: &Size, options: &[String]) -> Self {
        let slurm = &deployment.slurm;
        let skipped = |name: &str| {
            let is =
                |skip: &String| skip.trim_start_matches('-').split(['=', ' ']).next() == Some(name);
            slurm.skip_directives.iter().any(is)
        };
        let unless_skipped = |name, number| if skipped(name) { 1 } else { number };
        let gres = slurm.gres.as_deref().filter(|_| !skipped("gres")).map_or(0, gpus_of);
        let per_node = slurm.gpus_per_node.filter(|_| !skipped("gpus-per-node")).unwrap_or(0);
        let mem = slurm.mem.as_deref().filter(|_| !skipped("mem"));
        let time = slurm.time.as_deref().filter(|_| !skipped("time"));
        let partition = slurm.partition.clone().filter(|_| !skipped("partition"));
        Self {
            partitions: partition_of(options).or(partition),
            nodes: unless_skipped("nodes", size.nodes),
            tasks: unless_skipped("ntasks-per-node", size.ntasks_per_node),
            cpus_per_task: unless_skipped("cpus-per-task", size.cpus_per_task.unwrap_or(1)),
            gpus: gres.max(u32::try_from(per_node).unwrap_or(u32::MAX)),
            memory_bytes: mem.and_then(parse_request),
            time: time.and_then(|time| time.parse().ok()),
        }
    }

    /// Checks it against the cluster's partitions; gives the names of those that have what it asks for,
    /// none where Slurm alone knows which one the job goes to.
    pub(crate) fn check(&self, partitions: &[Partition]) -> Result<Vec<String>, Refusal> {
        let meant = match &self.partitions {
            Some(names) => find_partitions(partitions, names).map_err(Refusal::NoSuchPartition)?,
            None => partitions.iter().filter(|partition| partition.default).collect(),
        };
        let found: Vec<_> =
            meant.iter().map(|partition| (partition, self.excess(partition))).collect();
        let fitting = found.iter().filter(|(_, excess)| excess.is_none());
        let fitting: Vec<_> = fitting.map(|(partition, _)| partition.name.clone()).collect();
        let excess: Vec<_> = found.into_iter().filter_map(|(_, excess)| excess).collect();
        match fitting.is_empty() && !excess.is_empty() {
            true => Err(Refusal::TooMuch(excess)),
            false => Ok(fitting),
        }
    }

    /// What `partition` can't give.
    fn excess(&self, partition: &Partition) -> Option<String> {
        let (name, groups) = (&partition.name, &partition.groups);
        let most = |of: fn(&NodeGroup) -> u64| groups.iter().map(of).max().unwrap_or(0);
        let cpus = u64::from(self.tasks) * u64::from(self.cpus_per_task);
        let refuse = |what: String| Some(format!("partition {name}: the job asks for {what}"));
        let nodes = counted(self.nodes, "node");
        if let Some(max) = partition.max_nodes.filter(|&max| max < self.nodes) {
            return refuse(format!("{nodes}, and one job may have {max} there"));
        }
        if partition.num_nodes() < self.nodes {
            return refuse(format!("{nodes}, and it has {}", partition.num_nodes()));
        }
        if cpus > most(cpus_of) {
            return refuse(format!(
                "{cpus} CPUs on a node ({} of {}), and its nodes have {}",
                counted(self.tasks, "task"),
                counted(self.cpus_per_task, "CPU"),
                most(cpus_of)
            ));
        }
        if u64::from(self.gpus) > most(gpus_in) {
            return refuse(format!(
                "{} on a node, and its nodes have {}",
                counted(self.gpus, "GPU"),
                most(gpus_in)
            ));
        }
        let memory = self.memory_bytes.unwrap_or(0);
        if memory > most(memory_of) {
            return refuse(format!(
                "{} on a node, and its nodes have {}",
                human(memory),
                human(most(memory_of))
            ));
        }
        let fits = |group: &&NodeGroup| {
            cpus_of(group) >= cpus
                && gpus_in(group) >= self.gpus.into()
                && memory_of(group) >= memory
        };
        let fitting: u32 = groups.iter().filter(fits).map(|group| group.count).sum();
        if fitting < self.nodes {
            return refuse(format!(
                "{nodes} with {cpus} CPU{}, {} and {} each, and {fitting} of its {} have that",
                if cpus == 1 { "" } else { "s" },
                counted(self.gpus, "GPU"),
                human(memory),
                partition.num_nodes()
            ));
        }
        let (asked, allowed) = (self.time?, partition.time_limit?);
        let over = asked > allowed;
        if over { refuse(format!("a time of {asked}, and it allows {allowed}")) } else { None }
    }
}

/// CPUs of each node; what Slurm doesn't say is no limit.
fn cpus_of(group: &NodeGroup) -> u64 {
    group.cpus.map_or(u64::MAX, u64::from)
}

fn gpus_in(group: &NodeGroup) -> u64 {
    group.gpus().into()
}

fn memory_of(group: &NodeGroup) -> u64 {
    group.memory_bytes.unwrap_or(u64::MAX)
}

/// `1 node`, `2 nodes`.
pub(crate) fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The partitions that arguments of sbatch name, the last of them.
fn partition_of(options: &[String]) -> Option<String> {
    let mut named = options.iter().enumerate().filter_map(|(at, option)| {
        if option == "-p" || option == "--partition" {
            return options.get(at + 1).cloned();
        }
        let value = option.strip_prefix("--partition=");
        value
            .or_else(|| option.strip_prefix("-p").filter(|_| !option.starts_with("--")))
            .map(str::to_owned)
    });
    named.next_back()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn group(count: u32, cpus: u32, gib: u64, gpus: u32) -> NodeGroup {
        NodeGroup {
            nodes: "n[1-9]".into(),
            count,
            idle: count,
            cpus: Some(cpus),
            memory_bytes: Some(gib << 30),
            gres: (gpus > 0).then(|| format!("gpu:{gpus}")),
        }
    }

    fn partitions() -> Vec<Partition> {
        let partition = |name: &str, default, max_nodes, groups| Partition {
            name: name.into(),
            default,
            up: true,
            time_limit: Some("2:00:00".parse().unwrap()),
            max_nodes,
            groups,
        };
        vec![
            partition("main", true, None, vec![group(3, 4, 8, 0), group(1, 4, 8, 2)]),
            partition("big", false, Some(2), vec![group(8, 64, 512, 8)]),
        ]
    }

    fn checked(more: &str, options: &[&str]) -> Result<Vec<String>, String> {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let demand = Demand::of(&deployment, &Size::of(&deployment).unwrap(), &options);
        demand.check(&partitions()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn what_fits_goes_where_it_fits() {
        assert_eq!(checked("", &[]).unwrap(), ["main"]);
        assert_eq!(checked("model.tp_size = 64\nslurm.partition = \"big\"", &[]).unwrap(), ["big"]);
        let either = "model.tp_size = 8\nslurm.partition = \"main,big\"";
        assert_eq!(checked(either, &[]).unwrap(), ["big"]);
        for options in [&["--partition=big"][..], &["-p", "big"], &["-pbig"], &["-p", "x", "-pbig"]]
        {
            assert_eq!(checked("model.tp_size = 64", options).unwrap(), ["big"]);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_in_numbers() {
        for (more, expected) in [
            (
                "slurm.partition = \"gpu\"",
                "slurm.partition: partition \"gpu\" does not exist; there are: main, big",
            ),
            (
                "model.tp_size = 5\nslurm.nodes = 5",
                "partition main: the job asks for 5 nodes, and it has 4",
            ),
            (
                "model.tp_size = 3\nslurm.nodes = 3\nslurm.partition = \"big\"",
                "partition big: the job asks for 3 nodes, and one job may have 2 there",
            ),
            (
                "model.tp_size = 3\nmodel.threads = 2",
                "partition main: the job asks for 6 CPUs on a node (3 tasks of 2 CPUs), and its nodes have 4",
            ),
            (
                "slurm.gpus_per_node = 4",
                "partition main: the job asks for 4 GPUs on a node, and its nodes have 2",
            ),
            (
                "slurm.gres = \"gpu:h100:3\"",
                "partition main: the job asks for 3 GPUs on a node, and its nodes have 2",
            ),
            (
                "slurm.mem = \"9G\"",
                "partition main: the job asks for 9 GiB on a node, and its nodes have 8 GiB",
            ),
            (
                "model.tp_size = 2\nslurm.nodes = 2\nslurm.gpus_per_node = 2\nslurm.mem = \"1G\"",
                "partition main: the job asks for 2 nodes with 1 CPU, 2 GPUs and 1 GiB each, and 1 of its 4 have that",
            ),
            (
                "slurm.time = \"3:00:00\"",
                "partition main: the job asks for a time of 03:00:00, and it allows 02:00:00",
            ),
        ] {
            assert_eq!(checked(more, &[]).unwrap_err(), expected);
        }
    }

    #[test]
    fn what_the_site_refuses_is_not_asked_for() {
        let more = "slurm.mem = \"9G\"\nslurm.skip_directives = [\"--mem\"]";
        assert_eq!(checked(more, &[]).unwrap(), ["main"]);
    }
}
