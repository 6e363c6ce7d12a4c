//! What a job asks of its partition, in numbers, before sbatch is asked: Slurm takes many a job that can
//! never start.

use std::collections::BTreeSet;

use shardrun_config::Deployment;
use shardrun_slurm::{
    NodeGroup, Partition, SlurmError, TimeLimit, asked_gpus, find_partitions, gpus_of, human,
    parse_request,
};

use super::size::{Size, SizeError};
use super::told::{Said, Told, skips};

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    partition: Option<Said>,
    nodes: u32,
    tasks: u32,
    cpus_per_task: u32,
    gpus: u32,
    /// Different GPUs that the ranks of a node name.
    gpus_named: u32,
    memory: Option<(u64, String)>,
    time: Option<(TimeLimit, String)>,
    /// Whether it has a quality of service, which may lift limits of its partition.
    qos: bool,
    /// Whether it goes to another cluster than is asked for its partitions.
    elsewhere: bool,
}

/// Why a job can't run in any partition that it may go to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{by}: {error}")]
    NoSuchPartition { by: String, error: SlurmError },
    #[error("{}", .0.join("\n"))]
    TooMuch(Vec<String>),
}

/// Where a job may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// The partitions that have what it asks for; none where Slurm alone knows which one it goes to.
    pub(crate) partitions: Vec<String>,
    /// Limits that it is over, and that its quality of service may lift.
    pub(crate) warnings: Vec<String>,
}

impl Demand {
    /// That of a deployment whose script is submitted as `told`.
    ///
    /// # Errors
    /// [`SizeError`]: it is several jobs, or its ranks don't fit its nodes.
    pub(crate) fn of(deployment: &Deployment, told: &Told) -> Result<Self, SizeError> {
        let size = Size::of(deployment)?;
        if let Some(error) = SizeError::array(told) {
            return Err(error);
        }
        let number = |name: &str, key: u32| match told.of(name) {
            // `2-4` nodes are two at least; what else sbatch takes is its own to judge.
            Some(said) => said.value.split('-').next().and_then(|n| n.parse().ok()).unwrap_or(1),
            None if skips(deployment, name) => 1,
            None => key,
        };
        let tasks = number("ntasks-per-node", size.ntasks_per_node);
        let gpus = |name: &str, read: fn(&str) -> u32| told.of(name).map_or(0, |s| read(&s.value));
        let memory = told.one_of(&["mem", "mem-per-cpu", "mem-per-gpu"]);
        let memory = memory.filter(|said| said.name == "mem");
        let named = deployment.models.iter().flat_map(|model| &model.gpu_device_ids.0).flatten();
        // All GPUs of its nodes, or such as are not counted by the node.
        let others = told.one_of(&["exclusive", "gpus", "gpus-per-task"]).is_some();
        let named = if others { 0 } else { named.collect::<BTreeSet<_>>().len() };
        Ok(Self {
            partition: told.of("partition").cloned(),
            nodes: number("nodes", size.nodes),
            tasks,
            cpus_per_task: number("cpus-per-task", size.cpus_per_task.unwrap_or(1)),
            gpus: gpus("gres", gpus_of).max(gpus("gpus-per-node", asked_gpus)),
            gpus_named: u32::try_from(named).unwrap_or(u32::MAX).min(tasks),
            memory: memory.and_then(|said| Some((parse_request(&said.value)?, said.by.clone()))),
            time: told
                .of("time")
                .and_then(|said| Some((said.value.parse().ok()?, said.by.clone()))),
            qos: told.of("qos").is_some(),
            elsewhere: told.of("clusters").is_some(),
        })
    }

    /// How many nodes it has at least.
    pub(crate) fn nodes(&self) -> u32 {
        self.nodes
    }

    /// The memory of a node in bytes, if it asks for so much, and who does.
    pub(crate) fn memory(&self) -> Option<(u64, &str)> {
        self.memory.as_ref().map(|(bytes, by)| (*bytes, by.as_str()))
    }

    /// How long it may run, if it says so, and who does.
    pub(crate) fn time(&self) -> Option<(TimeLimit, &str)> {
        self.time.as_ref().map(|(time, by)| (*time, by.as_str()))
    }

    /// Checks it against the cluster's partitions.
    ///
    /// # Errors
    /// [`Refusal`]: there is no such partition, or none that it names has what it asks for.
    pub(crate) fn check(&self, partitions: &[Partition]) -> Result<Room, Refusal> {
        if self.elsewhere {
            return Ok(Room::default());
        }
        let meant = match &self.partition {
            Some(Said { value, by, .. }) => find_partitions(partitions, value)
                .map_err(|error| Refusal::NoSuchPartition { by: by.clone(), error })?,
            None => partitions.iter().filter(|partition| partition.default).collect(),
        };
        let (mut room, mut refused) = (Room::default(), Vec::new());
        for partition in meant {
            match (self.lack(partition), self.over(partition)) {
                (None, None) => room.partitions.push(partition.name.clone()),
                (None, Some(over)) if self.qos => {
                    room.partitions.push(partition.name.clone());
                    room.warnings.push(format!("{over}, unless its QOS lifts that limit"));
                }
                (Some(why), _) | (None, Some(why)) => refused.push(why),
            }
        }
        match room.partitions.is_empty() && !refused.is_empty() {
            true => Err(Refusal::TooMuch(refused)),
            false => Ok(room),
        }
    }

    /// The limit of `partition` that it is over.
    fn over(&self, partition: &Partition) -> Option<String> {
        if let Some(max) = partition.max_nodes.filter(|&max| max < self.nodes) {
            let nodes = counted(self.nodes, "node");
            return refused(partition, &format!("{nodes}, and one job may have {max} there"));
        }
        let ((asked, _), allowed) = (self.time()?, partition.time_limit?);
        match asked > allowed {
            true => refused(partition, &format!("a time of {asked}, and it allows {allowed}")),
            false => None,
        }
    }

    /// What the nodes of `partition` have not.
    fn lack(&self, partition: &Partition) -> Option<String> {
        let groups = &partition.groups;
        let most = |of: fn(&NodeGroup) -> u64| groups.iter().map(of).max().unwrap_or(0);
        let cpus = u64::from(self.tasks) * u64::from(self.cpus_per_task);
        let refuse = |what: String| refused(partition, &what);
        let nodes = counted(self.nodes, "node");
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
        // Where Slurm doesn't know of GPUs, nobody needs to ask for them.
        if self.gpus_named > self.gpus && most(gpus_in) > 0 {
            return refuse(format!(
                "{} on a node (slurm.gpus_per_node, slurm.gres), and model.gpu_device_ids names {}",
                counted(self.gpus, "GPU"),
                self.gpus_named
            ));
        }
        let memory = self.memory().map_or(0, |(bytes, _)| bytes);
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
        if fitting >= self.nodes {
            return None;
        }
        refuse(format!(
            "{nodes} with {cpus} CPU{}, {} and {} each, and {fitting} of its {} have that",
            if cpus == 1 { "" } else { "s" },
            counted(self.gpus, "GPU"),
            human(memory),
            partition.num_nodes()
        ))
    }
}

fn refused(partition: &Partition, what: &str) -> Option<String> {
    Some(format!("partition {}: the job asks for {what}", partition.name))
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

    fn room(more: &str, options: &[&str]) -> Result<Room, String> {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let demand = Demand::of(&deployment, &Told::new(&deployment, &options, |_| None)).unwrap();
        demand.check(&partitions()).map_err(|refusal| refusal.to_string())
    }

    fn checked(more: &str, options: &[&str]) -> Result<Vec<String>, String> {
        room(more, options).map(|room| room.partitions)
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

    #[test]
    fn what_sbatch_is_told_beside_the_keys_counts() {
        let big = "slurm.directives = [\"--partition=big\"]\nmodel.tp_size = 64";
        assert_eq!(checked(big, &[]).unwrap(), ["big"]);
        let keys =
            "slurm.mem = \"9G\"\nslurm.time = \"3:00:00\"\nslurm.nodes = 2\nmodel.tp_size = 2";
        assert_eq!(checked(keys, &["--mem=1G", "-t", "5", "-N1"]).unwrap(), ["main"]);
        assert_eq!(checked(keys, &["--mem-per-cpu=1G", "-t5"]).unwrap(), ["main"]);
        assert!(checked("", &["--mem=9G"]).unwrap_err().contains("asks for 9 GiB on a node"));
        assert!(checked("", &["-N", "9-12"]).unwrap_err().contains("asks for 9 nodes"));
        let error = checked("", &["-p", "gpu"]).unwrap_err();
        assert!(error.starts_with("--partition: partition \"gpu\" does not exist"), "{error}");
        assert_eq!(room("slurm.mem = \"9T\"", &["-M", "west"]).unwrap(), Room::default());
    }

    #[test]
    fn a_qos_may_lift_limits_but_makes_no_nodes_larger() {
        let qos = "slurm.qos = \"long\"\nslurm.time = \"3:00:00\"";
        assert_eq!(
            room(qos, &[]).unwrap(),
            Room {
                partitions: vec!["main".into()],
                warnings: vec![
                    "partition main: the job asks for a time of 03:00:00, and it allows 02:00:00, unless \
                     its QOS lifts that limit"
                        .into()
                ],
            }
        );
        assert!(room("slurm.time = \"3:00:00\"", &[]).is_err());
        assert!(room(&format!("{qos}\nslurm.mem = \"9G\""), &[]).is_err());
        let nodes = "model.tp_size = 3\nslurm.nodes = 3\nslurm.partition = \"big\"";
        assert_eq!(room(nodes, &["-q", "wide"]).unwrap().warnings.len(), 1);
    }

    #[test]
    fn gpus_that_ranks_name_must_be_asked_for() {
        let named = "model.gpu_device_ids = \"0,1\"\nmodel.tp_size = 2";
        assert_eq!(
            checked(named, &[]).unwrap_err(),
            "partition main: the job asks for 0 GPUs on a node (slurm.gpus_per_node, slurm.gres), and \
             model.gpu_device_ids names 2"
        );
        for option in ["--gres=gpu:2", "--gpus=2", "-G2", "--gpus-per-task=1", "--exclusive"] {
            assert_eq!(checked(named, &[option]).unwrap(), ["main"], "{option}");
        }
        assert!(checked(&format!("{named}\nslurm.exclusive = true"), &[]).is_ok());
    }

    #[test]
    fn an_array_is_no_one_job() {
        for (more, options, by) in [
            ("slurm.directives = [\"-a 0-3\"]", &[][..], "slurm.directives"),
            ("", &["--array=0-3"], "--array"),
        ] {
            let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
            let deployment = Deployment::from_resolved_toml(&text).unwrap();
            let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
            let told = Told::new(&deployment, &options, |_| None);
            let error = Demand::of(&deployment, &told).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{by}: a job array is not possible")), "{error}");
        }
    }
}
