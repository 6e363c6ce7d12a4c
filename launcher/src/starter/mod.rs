//! The process that starts an instance's ranks and lives as long as they do.

mod comm_spawn;
mod container;
mod mpirun;
mod srun;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use shardrun_config::{Deployment, InstanceLayout, Layout, Mode, RankPlace, RunDir, Spawner};
use shardrun_wire::{Address, mpi_network};

use crate::programs;
use comm_spawn::{CommSpawn, Reach};
pub(crate) use container::check_container;
pub(crate) use mpirun::shell_line;

/// Which kind of process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mpirun,
    Srun,
    CommSpawn,
    /// The worker itself, as the only rank of its instance, without MPI.
    Worker,
}

impl Kind {
    /// Its program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Mpirun => programs::MPIRUN,
            Self::Srun => programs::SRUN,
            Self::CommSpawn => programs::SPAWN,
            Self::Worker => programs::WORKER,
        }
    }

    /// The signal at which it ends its ranks, wherever they are, and then itself.
    pub(crate) fn stop_signal(self) -> Signal {
        match self {
            Self::Mpirun | Self::CommSpawn => Signal::SIGTERM,
            // It was told to quit at the first.
            Self::Srun => Signal::SIGINT,
            // To it, another would be the user's wish that it drain.
            Self::Worker => Signal::SIGKILL,
        }
    }

    /// How long it may take to say what a rank died of before the other ranks are killed. srun asks the
    /// step's daemons on all nodes; mpirun knows at once, and the last rank's end ends it sooner.
    pub(crate) fn last_words(self) -> Duration {
        match self {
            Self::Srun => Duration::from_secs(2),
            Self::Mpirun | Self::CommSpawn | Self::Worker => Duration::from_millis(500),
        }
    }

    /// Whether it ends when its ranks do.
    pub(crate) fn ends_with_ranks(self) -> bool {
        self != Self::CommSpawn
    }

    /// Whether it is the only rank itself.
    pub(crate) fn is_rank(self) -> bool {
        self == Self::Worker
    }
}

/// A deployment's file, as it was at some time, and where its ranks go.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) deployment: Deployment,
    pub(crate) layout: Layout,
    /// The deployment that ranks read, in the run's directory.
    pub(crate) config: PathBuf,
}

/// Which instance of a generation is meant.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) generation: Arc<Generation>,
    /// Its place among the instances of the generation's deployment.
    pub(crate) place: usize,
}

/// Starts the instances of one deployment.
#[derive(Clone, Debug)]
pub(crate) struct Starter {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    pub(crate) worker: PathBuf,
    /// By the numbers of instances.
    pub(crate) placements: BTreeMap<u32, Placement>,
    /// Where ranks reach the supervisor, in the order in which they try.
    pub(crate) supervisor: Vec<Address>,
    /// The supervisor's node.
    pub(crate) host: String,
    /// Ranks that mpirun starts here without being told to oversubscribe; `None` if ranks go to other
    /// nodes, too.
    pub(crate) slots: Option<usize>,
    /// How many nodes the Slurm job has, if this process is in one.
    pub(crate) job_nodes: Option<usize>,
    pub(crate) uid: u32,
}

impl Generation {
    /// Its instances, numbered by their places.
    pub(crate) fn placements(self) -> BTreeMap<u32, Placement> {
        let generation = Arc::new(self);
        let places = 0..generation.layout.instances.len();
        let placement = |place| Placement { generation: generation.clone(), place };
        places.map(|place| (place as u32, placement(place))).collect()
    }
}

/// What starts one instance.
#[derive(Debug)]
pub(crate) struct StartCommand {
    /// The command, program first.
    pub(crate) argv: Vec<OsString>,
    /// Variables to set.
    pub(crate) set: Vec<(OsString, OsString)>,
    /// Variables to take out.
    pub(crate) unset: Vec<&'static str>,
    /// Where the MPI library keeps its files; `None` if that is left to it.
    pub(crate) scratch: Option<PathBuf>,
    /// Where what it prints is kept.
    pub(crate) log: PathBuf,
    /// Files that it reads, with their text.
    pub(crate) files: Vec<(PathBuf, String)>,
}

impl Starter {
    /// What starts an instance for the `attempt`th time, from 0.
    pub(crate) fn command(&self, instance: u32, attempt: u32) -> anyhow::Result<StartCommand> {
        let placement = self.placements.get(&instance);
        let placement = placement.with_context(|| format!("there is no instance {instance}"))?;
        let Placement { generation, place } = placement;
        let Generation { deployment, layout, config } = &**generation;
        let layout = layout.instances.get(*place);
        let layout = layout.with_context(|| format!("the layout has no instance {place}"))?;
        // One world is started as a whole, by the name of the deployment.
        let (name, layout) = match deployment.shares_a_world() {
            true => (deployment.name.clone(), &whole_world(deployment, &generation.layout)),
            false => (deployment.instance_name(*place), layout),
        };
        let worker = self.worker(instance, attempt, placement);
        let launch = &deployment.launch;
        let network = launch.interface.as_deref().and_then(mpi_network);
        let network = network.as_deref();
        let folder = config.parent().context("the deployment is in no folder")?;
        let own = matches!(self.kind, Kind::Mpirun | Kind::CommSpawn);
        let scratch = own.then(|| folder.join(format!("mpi.{instance}.{attempt}")));
        let mut command = StartCommand {
            argv: Vec::new(),
            set: Vec::new(),
            unset: Vec::new(),
            scratch: scratch.clone(),
            files: Vec::new(),
            log: folder.join(format!("{}.{name}.log", self.kind.program())),
        };
        match self.kind {
            Kind::Mpirun => {
                let Self { program, slots, uid, .. } = self;
                let (slots, uid, worker) = (*slots, *uid, &worker);
                command.argv =
                    mpirun::Mpirun { program, layout, slots, network, uid, launch, worker }.argv();
                command.set.extend(self.in_job(layout));
            }
            Kind::Srun => {
                let program = &self.program;
                let (name, worker) = (&*name, &*worker);
                let step = srun::Step { program, layout, name, deployment, folder, worker };
                command.argv = step.argv()?;
                if let Some(hosts) = srun::host_file(layout) {
                    let path = folder.join(format!("hosts.{instance}"));
                    command.set.push(("SLURM_HOSTFILE".into(), path.clone().into()));
                    command.files.push((path, hosts));
                }
            }
            Kind::CommSpawn => {
                let reach = match (self.slots, self.job_nodes) {
                    (Some(_), _) => Reach::Here,
                    (None, Some(_)) => Reach::Job,
                    (None, None) => Reach::Hosts,
                };
                let spawn = CommSpawn {
                    program: &self.program,
                    layout,
                    reach,
                    launch,
                    network,
                    // That of ranks which mpirun or srun starts.
                    wdir: &std::env::current_dir().context("this process is in no folder")?,
                    scratch: scratch.as_deref(),
                    worker: &worker,
                };
                command.argv = spawn.argv();
                command.unset.extend(comm_spawn::OF_A_STEP);
                command.set.extend(spawn.variables(self.uid));
                command.set.extend(self.in_job(layout));
            }
            Kind::Worker => command.argv = worker,
        }
        if let Some(scratch) = scratch {
            // Of the same run, and gone with it, even when starter or daemons are killed. Each node has a
            // folder of its own there.
            for name in ["OMPI_MCA_orte_tmpdir_base", "PRTE_MCA_prte_tmpdir_base"] {
                command.set.push((name.into(), scratch.clone().into()));
            }
        }
        Ok(command)
    }

    /// Whether the instances are parts of one world, which is started once for all of them.
    pub(crate) fn shares_a_world(&self) -> bool {
        let mut placements = self.placements.values();
        placements.any(|placement| placement.generation.deployment.shares_a_world())
    }

    /// What Open MPI needs to be told where it takes its nodes from a Slurm job: it counts the tasks that
    /// the job was asked for, and its daemons are steps.
    fn in_job(&self, layout: &InstanceLayout) -> Vec<(OsString, OsString)> {
        let Some(nodes) = self.job_nodes else { return Vec::new() };
        let most = layout.hosts().iter().map(|(_, ranks)| *ranks).max().unwrap_or(1);
        vec![
            ("SLURM_TASKS_PER_NODE".into(), format!("{most}(x{nodes})").into()),
            // Several start their daemons side by side.
            ("SLURM_OVERLAP".into(), "1".into()),
        ]
    }

    /// What shared-memory names of an instance begin with.
    pub(crate) fn shm_prefix(&self, instance: u32) -> Option<String> {
        let placement = self.placements.get(&instance)?;
        placement.generation.deployment.instance_prefix(instance as usize)
    }

    /// The command of each rank.
    fn worker(&self, instance: u32, attempt: u32, placement: &Placement) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.worker.clone().into()];
        argv.extend(["--config".into(), placement.generation.config.clone().into()]);
        for address in &self.supervisor {
            argv.extend(["--supervisor".into(), address.to_string().into()]);
        }
        argv.extend(["--supervisor-host".into(), self.host.clone().into()]);
        argv.extend(["--instance".into(), instance.to_string().into()]);
        if placement.place != instance as usize {
            argv.extend(["--place".into(), placement.place.to_string().into()]);
        }
        argv.extend(["--attempt".into(), attempt.to_string().into()]);
        match self.kind {
            Kind::CommSpawn => argv.push("--spawned".into()),
            Kind::Worker => argv.push("--alone".into()),
            Kind::Mpirun | Kind::Srun => {}
        }
        argv
    }
}

/// All ranks of a deployment whose instances share a world, in the order of that world; those in no instance
/// go where rank 0 of the first does.
fn whole_world(deployment: &Deployment, layout: &Layout) -> InstanceLayout {
    let places = (0..deployment.shared_world_size()).filter_map(|world_rank| {
        let (instance, rank) = deployment.participant(world_rank).unwrap_or((0, 0));
        let place = layout.instances.get(instance)?.ranks.get(rank)?;
        Some(RankPlace { rank: world_rank, ..place.clone() })
    });
    InstanceLayout { model: deployment.name.clone(), ranks: places.collect() }
}

/// Leaves what ranks read beside the deployment.
pub(crate) fn write_layout(config: &Path, layout: &Layout) -> anyhow::Result<()> {
    let path = RunDir::layout_of(config);
    let text = serde_json::to_string_pretty(layout)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Which kind starts instances, where `in_slurm` says whether that is in a Slurm allocation.
pub(crate) fn kind(deployment: &Deployment, in_slurm: bool) -> Kind {
    use shardrun_config::Starter as Choice;
    let spawns = deployment.launch.spawner == Spawner::CommSpawn;
    match deployment.launch.starter {
        _ if deployment.shares_a_world() && !in_slurm => Kind::Mpirun,
        _ if spawns && deployment.mode == Mode::Orchestrator => Kind::CommSpawn,
        Choice::Srun => Kind::Srun,
        Choice::Auto if in_slurm => Kind::Srun,
        Choice::Auto if needs_no_mpi(deployment) => Kind::Worker,
        Choice::Auto | Choice::Mpirun => Kind::Mpirun,
    }
}

/// Whether every instance is one rank, of this machine, and nothing is said about mpirun.
fn needs_no_mpi(deployment: &Deployment) -> bool {
    let launch = &deployment.launch;
    launch.hosts.is_empty()
        && launch.mpirun_args.is_empty()
        && deployment.instances().all(|model| model.tp_size == 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_ranks_of_this_machine_need_no_mpi() {
        let kind = |text: &str, in_slurm: bool| {
            let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{text}");
            super::kind(&Deployment::from_resolved_toml(&text).unwrap(), in_slurm)
        };
        assert_eq!(kind("", false), Kind::Worker);
        assert_eq!(kind("", true), Kind::Srun);
        for text in [
            "model.tp_size = 2",
            "launch.starter = \"mpirun\"",
            "launch.hosts = [\"a\"]",
            "launch.mpirun_args = [\"-v\"]",
        ] {
            assert_eq!(kind(text, false), Kind::Mpirun, "{text}");
        }
    }
}
