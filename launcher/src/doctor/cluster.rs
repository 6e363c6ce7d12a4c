//! Slurm: its programs, its controller, its MPI plugins, and what the deployment asks of it.

use shardrun_config::{ContainerRuntime, Deployment};
use shardrun_slurm::Partition;

use super::ask::ask;
use super::{Cluster, Finding, Patient, one_line};
use crate::programs;
use crate::starter::Kind;
use crate::submission::{Demand, Size, Told, counted};

const SLURM: &str = "slurm";

const PROGRAMS: [&str; 6] = ["sbatch", "srun", "scancel", "scontrol", "sinfo", "squeue"];

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &patient.cluster {
        Cluster::None => findings.push(Finding::ok(SLURM, "not on this machine")),
        Cluster::Silent(why) => findings.push(silent(patient, why)),
        Cluster::Answers(partitions) => {
            findings.push(programs());
            findings.push(room(patient.deployment, partitions));
            findings.push(plugin(patient));
        }
    }
    findings.extend(patient.deployment.and_then(container));
    findings
}

/// Workstations have Slurm's programs, too.
fn silent(patient: &Patient<'_>, why: &str) -> Finding {
    let found = why.to_owned();
    let needed = patient.in_job || patient.starter() == Some(Kind::Srun);
    match needed {
        true => Finding::failure(SLURM, found, "ask those who run the cluster"),
        false => Finding::warning(SLURM, found, "nothing can be submitted from here"),
    }
}

fn programs() -> Finding {
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|name| programs::on_path(name).is_none()).copied().collect();
    let version = shardrun_slurm::Slurm::new().version();
    match (missing.is_empty(), version) {
        (true, Ok(version)) => Finding::ok(SLURM, format!("version {version}")),
        (true, Err(error)) => {
            let said = one_line(&error.to_string());
            Finding::failure(SLURM, said, "ask those who run the cluster")
        }
        (false, _) => Finding::failure(
            SLURM,
            format!("these are not on PATH: {}", missing.join(", ")),
            "put Slurm's folder of programs on PATH",
        ),
    }
}

/// Whether the cluster has what the deployment asks for.
fn room(deployment: Option<&Deployment>, partitions: &[Partition]) -> Finding {
    const WHAT: &str = "partitions";
    let there = || {
        let names = partitions.iter().map(|partition| {
            let name = &partition.name;
            if partition.default { format!("{name} (default)") } else { name.clone() }
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let Some(deployment) = deployment else { return Finding::ok(WHAT, there()) };
    let fits = Size::of(deployment).map_err(anyhow::Error::from).and_then(|size| {
        let told = Told::new(deployment, &[], |name| std::env::var(name).ok());
        Ok((size, Demand::of(deployment, &told)?.check(partitions)?))
    });
    match fits {
        Ok((_, room)) if !room.warnings.is_empty() => {
            Finding::warning(WHAT, room.warnings.join("; "), "`sacctmgr show qos` has its limits")
        }
        Ok((size, room)) => {
            let fitting = room.partitions;
            let where_ = if fitting.is_empty() { there() } else { fitting.join(", ") };
            let (nodes, ranks) = (size.nodes, size.ntasks_per_node);
            let found = format!(
                "{where_}: room for {}, {} on each",
                counted(nodes, "node"),
                counted(ranks, "rank")
            );
            Finding::ok(WHAT, found)
        }
        Err(error) => Finding::failure(
            WHAT,
            format!("{error:#}").replace('\n', "; "),
            "ask for less, or for another partition, in [slurm]",
        ),
    }
}

/// The plugin by which srun's tasks find each other.
fn plugin(patient: &Patient<'_>) -> Finding {
    const WHAT: &str = "srun's MPI";
    let wanted = patient.deployment.map_or("pmix", |deployment| &deployment.slurm.mpi);
    let needed = patient.starter().is_none_or(|kind| kind == Kind::Srun);
    match patient.slurm.mpi_plugins() {
        Ok(plugins) if plugins.iter().any(|plugin| plugin == wanted) => {
            Finding::ok(WHAT, format!("{wanted} is there, of {}", plugins.join(", ")))
        }
        Ok(plugins) if needed => Finding::failure(
            WHAT,
            format!("there is no plugin {wanted:?}; `srun --mpi=list` has {}", plugins.join(", ")),
            "let slurm.mpi name one that your MPI library was built for, or launch.starter be mpirun",
        ),
        Ok(plugins) => {
            Finding::ok(WHAT, format!("{}; mpirun starts the ranks", plugins.join(", ")))
        }
        Err(error) => {
            let said = one_line(&error.to_string());
            Finding::failure(WHAT, said, "ask those who run the cluster")
        }
    }
}

/// What runs the container, if the deployment has one.
fn container(deployment: &Deployment) -> Option<Finding> {
    const WHAT: &str = "container";
    let image = deployment.slurm.container.as_ref()?;
    Some(match deployment.slurm.container_runtime {
        ContainerRuntime::Pyxis => match ask("srun", &["--help"]) {
            Ok((_, help)) if help.contains("--container-image") => {
                Finding::ok(WHAT, format!("srun has pyxis, for {image}"))
            }
            _ => Finding::failure(
                WHAT,
                format!("srun has no --container-image, for {image}: pyxis is not installed"),
                "let slurm.container_runtime be apptainer, or ask those who run the cluster",
            ),
        },
        ContainerRuntime::Apptainer => match ask("apptainer", &["--version"]) {
            Ok((true, version)) => Finding::ok(WHAT, format!("{}, for {image}", version.trim())),
            Ok((false, said)) => Finding::failure(WHAT, said.trim(), "repair apptainer"),
            Err(why) => {
                Finding::failure(WHAT, why, "load the module that has apptainer (slurm.modules)")
            }
        },
    })
}
