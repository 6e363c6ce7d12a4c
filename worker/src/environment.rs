//! What the environment says about this process before MPI can be asked: who started it, and as
//! which rank of which job.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Who started this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// Open MPI's mpirun.
    OpenMpi,
    /// Slurm's srun.
    Slurm,
    /// Something else that speaks PMIx.
    Pmix,
    /// The supervisor itself: a world of one, without MPI.
    Supervisor,
    /// Nobody: a world of one.
    Nobody,
}

impl Starter {
    /// In messages.
    fn name(self) -> &'static str {
        match self {
            Self::OpenMpi => "mpirun",
            Self::Slurm => "srun",
            Self::Pmix => "a PMIx launcher",
            Self::Supervisor => "shardrun serve",
            Self::Nobody => "nobody",
        }
    }

    /// What helps where it and the MPI library don't understand each other.
    pub(crate) fn cure(self) -> &'static str {
        match self {
            Self::Slurm => {
                "Slurm's PMIx and that of the MPI library differ: `srun --mpi=list` tells which \
                 versions Slurm has, and slurm.mpi chooses one"
            }
            Self::OpenMpi | Self::Pmix | Self::Supervisor | Self::Nobody => {
                "use `mpirun` of the MPI that shardrun was built with, or `srun --mpi=pmix`"
            }
        }
    }
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) starter: Starter,
    /// This process's rank; 0 if nobody says.
    pub(crate) rank: usize,
    /// Its place among those of its node, if somebody says.
    pub(crate) local_rank: Option<usize>,
    /// How many ranks were started, if somebody says.
    pub(crate) size: Option<usize>,
    /// Whether all ranks of the job are on this node, as far as the starter says.
    pub(crate) one_node: bool,
    /// A name that the ranks of one job share and no other job on the machine has.
    pub(crate) job: String,
    /// The Slurm job, and the step if it is one.
    pub(crate) slurm: Option<String>,
    /// GPUs that this process may see, as CUDA names them: numbers, or UUIDs of GPUs and MIG slices.
    pub(crate) gpus: Vec<String>,
}

/// A step of several tasks whose ranks could not find each other.
#[derive(Debug, thiserror::Error)]
#[error(
    "srun started {tasks} tasks without PMIx (its MPI plugin is {plugin}), so that each would believe \
     that it is rank 0 of 1; start them with `srun --mpi=pmix`, and see `srun --mpi=list` for what \
     this Slurm has"
)]
pub(crate) struct NoPmix {
    /// Which of the tasks this is.
    pub(crate) task: usize,
    tasks: usize,
    plugin: String,
}

/// A job whose ranks MPI does not bring together.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} started {told} ranks, and the MPI library knows of {size}: they don't understand each other, so \
     every process believes that it is alone: {}",
    starter.name(),
    starter.cure()
)]
pub(crate) struct Apart {
    starter: Starter,
    told: usize,
    size: usize,
}

impl Environment {
    /// Whether MPI's world, of `size` ranks, has all that were started.
    pub(crate) fn check_world(&self, size: usize) -> Result<(), Apart> {
        match self.size {
            Some(told) if told > size => Err(Apart { starter: self.starter, told, size }),
            Some(_) | None => Ok(()),
        }
    }

    /// The same of the only rank, which the supervisor started itself.
    pub(crate) fn alone(self) -> Self {
        Self {
            starter: Starter::Supervisor,
            rank: 0,
            local_rank: None,
            size: None,
            one_node: true,
            ..self
        }
    }

    /// Reads the variables through `get`; `pid` names the job of a process that nobody started.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Self, NoPmix> {
        let number = |name: &str| get(name)?.parse::<usize>().ok();
        let first = |names: &[&str]| names.iter().find_map(|name| number(name));
        // Ranks of an mpirun in a Slurm job have the variables of the step that mpirun's daemon is.
        let starter = if number("OMPI_COMM_WORLD_RANK").is_some() {
            Starter::OpenMpi
        } else if number("SLURM_PROCID").is_some() && number("PMIX_RANK").is_some() {
            Starter::Slurm
        } else if number("PMIX_RANK").is_some() {
            Starter::Pmix
        } else {
            Starter::Nobody
        };
        // A batch script has the variables of a task, but none of a step.
        let tasks = number("SLURM_STEP_NUM_TASKS").filter(|_| get("SLURM_STEP_ID").is_some());
        if let (Starter::Nobody, Some(tasks @ 2..)) = (starter, tasks) {
            let plugin = get("SLURM_MPI_TYPE").unwrap_or_else(|| "none".to_owned());
            return Err(NoPmix { task: number("SLURM_PROCID").unwrap_or(0), tasks, plugin });
        }
        let started = starter != Starter::Nobody;
        let rank = first(&["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"]);
        let (size, local_rank, local_size) = match starter {
            Starter::OpenMpi => (
                number("OMPI_COMM_WORLD_SIZE"),
                number("OMPI_COMM_WORLD_LOCAL_RANK"),
                number("OMPI_COMM_WORLD_LOCAL_SIZE"),
            ),
            Starter::Slurm => {
                let nodes = number("SLURM_STEP_NUM_NODES");
                let local_size = tasks.filter(|_| nodes == Some(1));
                (tasks, number("SLURM_LOCALID"), local_size)
            }
            Starter::Pmix | Starter::Supervisor | Starter::Nobody => (None, None, None),
        };
        let job = get("PMIX_NAMESPACE").filter(|_| started);
        let step = get("SLURM_STEP_ID").map_or_else(String::new, |step| format!(".{step}"));
        let gpus = get("CUDA_VISIBLE_DEVICES").or_else(|| get("SLURM_STEP_GPUS"));
        let gpus = gpus.as_deref().unwrap_or("").split(',').map(str::trim);
        Ok(Self {
            starter,
            rank: rank.filter(|_| started).unwrap_or(0),
            local_rank,
            size,
            one_node: !started || (local_size.is_some() && local_size == size),
            job: job.unwrap_or_else(|| format!("pid-{pid}")),
            slurm: get("SLURM_JOB_ID").map(|job| format!("{job}{step}")),
            gpus: gpus.filter(|gpu| !gpu.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// The GPU of the rank that has this place on its node, where the deployment names none. Ranks keep seeing all GPUs of the node, since
    /// they reach each other's memory that way; more ranks than GPUs share them in turn.
    pub(crate) fn gpu(&self, local_rank: usize) -> Option<&str> {
        let place = local_rank.checked_rem(self.gpus.len())?;
        Some(&self.gpus[place])
    }

    /// The prefix of shared-memory names of a job whose deployment names none.
    pub(crate) fn shm_prefix(&self, uid: u32) -> String {
        let mut hasher = DefaultHasher::new();
        self.job.hash(&mut hasher);
        format!("shardrun_{uid}_{:012x}_", hasher.finish() >> 16)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.starter == Starter::Nobody {
            return f.write_str("started by hand, without an MPI launcher");
        }
        if self.starter == Starter::Supervisor {
            return f.write_str("started by shardrun serve as the only rank, without MPI");
        }
        write!(f, "started by {} as rank {}", self.starter.name(), self.rank)?;
        if let Some(size) = self.size {
            write!(f, " of {size}")?;
        }
        if let Some(local_rank) = self.local_rank {
            write!(f, ", local rank {local_rank}")?;
        }
        match &self.slurm {
            Some(job) => write!(f, ", Slurm job {job}")?,
            None => write!(f, ", job {}", self.job)?,
        }
        match self.gpus.as_slice() {
            [] => Ok(()),
            gpus => write!(f, ", GPUs {}", gpus.join(",")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let get = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Environment::read(get, 77).unwrap()
    }

    #[test]
    fn mpirun_is_known_by_its_variables() {
        let environment = read(&[
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("PMIX_RANK", "3"),
            ("PMIX_NAMESPACE", "1234.1"),
        ]);
        assert_eq!(environment.starter, Starter::OpenMpi);
        assert_eq!((environment.rank, &environment.job[..]), (3, "1234.1"));
        assert_eq!(environment.to_string(), "started by mpirun as rank 3, job 1234.1");
    }

    #[test]
    fn srun_with_pmix_is_slurm() {
        let environment = read(&[
            ("SLURM_PROCID", "2"),
            ("PMIX_RANK", "2"),
            ("PMIX_NAMESPACE", "slurm.pmix.7.0"),
        ]);
        assert_eq!((environment.starter, environment.rank), (Starter::Slurm, 2));
    }

    /// As a task of `srun --mpi=pmix -N2 -n4` has them.
    const STEP: [(&str, &str); 8] = [
        ("SLURM_JOB_ID", "7"),
        ("SLURM_STEP_ID", "3"),
        ("SLURM_STEP_NUM_TASKS", "4"),
        ("SLURM_STEP_NUM_NODES", "2"),
        ("SLURM_PROCID", "2"),
        ("SLURM_LOCALID", "0"),
        ("PMIX_RANK", "2"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1,MIG-2"),
    ];

    #[test]
    fn what_a_step_says_is_told_in_one_line() {
        let environment = read(&STEP);
        assert_eq!(
            environment.to_string(),
            "started by srun as rank 2 of 4, local rank 0, Slurm job 7.3, GPUs GPU-1,MIG-2"
        );
        assert!(!environment.one_node);
        assert_eq!((environment.gpu(1), environment.gpu(2)), (Some("MIG-2"), Some("GPU-1")));
        assert_eq!(read(&[]).gpu(0), None);
    }

    #[test]
    fn ranks_that_mpi_does_not_bring_together_are_told_so() {
        let step = read(&STEP);
        assert!(step.check_world(4).is_ok());
        let error = step.check_world(1).unwrap_err().to_string();
        assert!(
            error.starts_with("srun started 4 ranks, and the MPI library knows of 1: they don't"),
            "{error}"
        );
        assert!(error.contains("Slurm's PMIx and that of the MPI library differ"), "{error}");
        assert!(read(&[]).check_world(1).is_ok());
        // Nobody says how many there are.
        assert!(read(&[("PMIX_RANK", "0")]).check_world(1).is_ok());
    }

    #[test]
    fn ranks_of_an_mpirun_in_a_job_are_mpiruns() {
        let mut variables = STEP.to_vec();
        variables.extend([("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")]);
        let environment = read(&variables);
        assert_eq!((environment.starter, environment.rank), (Starter::OpenMpi, 1));
        assert_eq!(environment.size, Some(2));
    }

    #[test]
    fn a_step_without_pmix_is_refused_before_mpi_can_be_confused() {
        let variables: Vec<_> = STEP.into_iter().filter(|(name, _)| *name != "PMIX_RANK").collect();
        let get = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let error = Environment::read(get, 1).unwrap_err().to_string();
        assert!(error.starts_with("srun started 4 tasks without PMIx"), "{error}");
        let alone =
            |name: &str| if name == "SLURM_STEP_NUM_TASKS" { Some("1".into()) } else { get(name) };
        assert_eq!(Environment::read(alone, 1).unwrap().starter, Starter::Nobody);
    }

    #[test]
    fn ranks_are_on_one_node_if_as_many_are_here_as_anywhere() {
        let sized = |local: &'static str| {
            read(&[
                ("OMPI_COMM_WORLD_RANK", "0"),
                ("OMPI_COMM_WORLD_SIZE", "4"),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", local),
            ])
        };
        assert!(sized("4").one_node);
        assert!(!sized("2").one_node);
        assert!(!read(&[("PMIX_RANK", "0")]).one_node, "nobody said");
    }

    #[test]
    fn a_shell_inside_a_job_is_nobody() {
        let environment = read(&[("SLURM_PROCID", "0")]);
        assert_eq!((environment.starter, environment.rank), (Starter::Nobody, 0));
        assert_eq!(environment.job, "pid-77");
    }

    #[test]
    fn jobs_have_prefixes_of_their_own() {
        let one = read(&[("PMIX_RANK", "0"), ("PMIX_NAMESPACE", "1.1")]);
        let rank_one = read(&[("PMIX_RANK", "1"), ("PMIX_NAMESPACE", "1.1")]);
        let other = read(&[("PMIX_RANK", "0"), ("PMIX_NAMESPACE", "1.2")]);
        assert_eq!(one.shm_prefix(5), rank_one.shm_prefix(5));
        assert_ne!(one.shm_prefix(5), other.shm_prefix(5));
        assert_ne!(one.shm_prefix(5), one.shm_prefix(6));
    }
}
