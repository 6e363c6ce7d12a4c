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
    /// Nobody: a world of one.
    Nobody,
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) starter: Starter,
    /// This process's rank; 0 if nobody says.
    pub(crate) rank: usize,
    /// Whether all ranks of the job are on this node, as far as the starter says.
    pub(crate) one_node: bool,
    /// A name that the ranks of one job share and no other job on the machine has.
    pub(crate) job: String,
}

impl Environment {
    /// Reads the variables through `get`; `pid` names the job of a process that nobody started.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let number = |name: &str| get(name)?.parse::<usize>().ok();
        let starter = if number("OMPI_COMM_WORLD_RANK").is_some() && get("SLURM_PROCID").is_none() {
            Starter::OpenMpi
        } else if number("SLURM_PROCID").is_some() && number("PMIX_RANK").is_some() {
            Starter::Slurm
        } else if number("OMPI_COMM_WORLD_RANK").is_some() {
            Starter::OpenMpi
        } else if number("PMIX_RANK").is_some() {
            Starter::Pmix
        } else {
            Starter::Nobody
        };
        let rank = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"];
        let rank = rank.into_iter().find_map(number).filter(|_| starter != Starter::Nobody);
        let job = match (get("PMIX_NAMESPACE"), starter) {
            (Some(namespace), Starter::OpenMpi | Starter::Pmix | Starter::Slurm) => namespace,
            _ => format!("pid-{pid}"),
        };
        let local_size = number("OMPI_COMM_WORLD_LOCAL_SIZE");
        let one_node = starter == Starter::Nobody
            || (local_size.is_some() && local_size == number("OMPI_COMM_WORLD_SIZE"));
        Self { starter, rank: rank.unwrap_or(0), one_node, job }
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
        let starter = match self.starter {
            Starter::OpenMpi => "mpirun",
            Starter::Slurm => "srun",
            Starter::Pmix => "a PMIx launcher",
            Starter::Nobody => return f.write_str("started by hand, without an MPI launcher"),
        };
        write!(f, "started by {starter} as rank {} of job {}", self.rank, self.job)
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
        Environment::read(get, 77)
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
        assert_eq!(environment.to_string(), "started by mpirun as rank 3 of job 1234.1");
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
