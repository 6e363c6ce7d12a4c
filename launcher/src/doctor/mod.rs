//! Looking at a machine: does it have what a deployment needs? Each finding is one line, and what to do.
//!
//! Nothing here changes anything, and no program that is asked may take long.

mod ask;
mod cluster;
mod files;
mod finding;
mod limits;
mod model;
mod mpi;
mod network;
mod processors;

pub(crate) use finding::{Finding, Grade};

use shardrun_config::Deployment;
use shardrun_slurm::{Partition, Slurm};

use crate::job::InJob;
use crate::starter::{self, Kind};

/// What is looked at, and for whom.
pub(crate) struct Patient<'a> {
    /// `None` where it is not for a deployment.
    deployment: Option<&'a Deployment>,
    slurm: Slurm,
    cluster: Cluster,
    /// Whether this process is in a Slurm job, so that ranks may run here.
    in_job: bool,
}

/// The cluster of this machine.
enum Cluster {
    /// Slurm isn't installed.
    None,
    /// Its programs are here, and its controller doesn't answer: its words.
    Silent(String),
    Answers(Vec<Partition>),
}

impl<'a> Patient<'a> {
    pub(crate) fn new(deployment: Option<&'a Deployment>) -> Self {
        let slurm = Slurm::new();
        let cluster = match slurm.available().then(|| slurm.partitions()) {
            None => Cluster::None,
            Some(Ok(partitions)) => Cluster::Answers(partitions),
            Some(Err(error)) => Cluster::Silent(one_line(&error.to_string())),
        };
        let in_job = InJob::find().is_ok_and(|job| job.is_some());
        Self { deployment, slurm, cluster, in_job }
    }

    /// Whether jobs can be submitted from here.
    fn has_slurm(&self) -> bool {
        matches!(self.cluster, Cluster::Answers(_))
    }

    /// What starts the deployment's ranks here, or would in a job of this cluster.
    fn starter(&self) -> Option<Kind> {
        Some(starter::kind(self.deployment?, self.has_slurm()))
    }

    /// Whether ranks run on this machine: everywhere but where jobs are submitted from.
    fn computes(&self) -> bool {
        self.in_job || !self.has_slurm()
    }

    /// Looks at everything.
    pub(crate) fn examine(&self) -> anyhow::Result<Vec<Finding>> {
        let mut findings = mpi::look(self);
        findings.extend(cluster::look(self));
        findings.extend(limits::look());
        findings.extend(processors::look());
        findings.extend(files::look(self)?);
        findings.extend(model::look(self));
        findings.extend(network::look(self)?);
        Ok(findings)
    }
}

/// What a program said last, which mostly says why.
fn one_line(text: &str) -> String {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}
