//! From a fresh process to a rank that serves: MPI, the deployment, the lifeline, the model.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::{gethostname, getuid};
use serde::{Deserialize, Serialize};
use shardrun_comm::{Patience, World};
use shardrun_config::{Deployment, ModelSource, NodeShare, RunDir, ShmPrefix, cache_dir};
use shardrun_metrics::MetricsPage;
use shardrun_shm::{ScratchDir, rank_prefix};
use shardrun_wire::lifeline::{Hello, LIFELINE_VARIABLE};
use tracing::info;

use crate::cli::Cli;
use crate::environment::{Environment, Starter};
use crate::life::{self, Beats, Life, Watcher};
use crate::logs::OnTerminal;
use crate::{exit, load, logs, placement, roles, signals};

/// How long ranks wait for each other before the deployment has said how long.
const FIRST_PATIENCE: Patience = Patience { spin: false, timeout: Duration::from_secs(60) };

/// What every rank knows before it loads its shard.
pub(crate) struct Rank {
    pub(crate) world: World,
    pub(crate) host: String,
    pub(crate) deployment: Deployment,
    /// Prefix of the deployment's shared memory.
    pub(crate) prefix: String,
    pub(crate) share: NodeShare,
    pub(crate) patience: Patience,
    pub(crate) page: Arc<MetricsPage>,
    pub(crate) step: Arc<AtomicU64>,
}

/// What rank 0 tells the others before anything else.
#[derive(Serialize, Deserialize)]
struct Boot {
    /// The deployment with everything settled, as TOML.
    deployment: String,
    watcher: BootWatcher,
}

#[derive(Serialize, Deserialize)]
enum BootWatcher {
    Supervisor(PathBuf),
    Leader(PathBuf),
}

/// Runs this rank to its end.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<()> {
    let get = |name: &str| std::env::var(name).ok();
    let environment = Environment::read(get, std::process::id());
    let supervisor = std::env::var_os(LIFELINE_VARIABLE).map(PathBuf::from);

    // Every rank reads the file, for the names that it needs before it can talk to rank 0, whose
    // reading is the one that counts.
    let own_reading = read(cli, supervisor.is_some());
    let uid = getuid().as_raw();
    let prefix = own_reading.as_ref().ok().and_then(|own| own.run.shm_prefix.clone());
    let prefix = prefix.map_or_else(|| environment.shm_prefix(uid), |own| own.as_str().to_owned());
    let own_prefix = rank_prefix(&prefix, environment.rank);
    exit::on_abort_remove(prefix.clone(), own_prefix.clone());
    let scratch = ScratchDir::create(&format!("{own_prefix}mpi"))?;
    for transport in ["vader", "sm"] {
        set_for_mpi(&format!("btl_{transport}_backing_directory"), scratch.path().as_os_str());
    }
    if environment.one_node {
        // These would listen on the machine's interfaces, for peers that there aren't.
        set_for_mpi("btl", "^tcp,ofi,openib".as_ref());
    }
    signals::block()?;

    let mut world = World::init(FIRST_PATIENCE)?;
    let host = gethostname().context("cannot read the host's name")?;
    let host = host.to_string_lossy().into_owned();
    exit::leave_errors_to_rank_0(world.rank() != 0);
    let boot = agree(&world, own_reading, &prefix, supervisor, uid)?;
    let deployment = Deployment::from_resolved_toml(&boot.deployment)?;
    check_world(&world, &deployment, &environment)?;

    let log_dir = deployment.run.log_dir.clone().context("a settled deployment has run.log_dir")?;
    let log = logs::path(&log_dir, world.rank(), &host);
    let on_terminal = match &boot.watcher {
        _ if world.rank() != 0 => OnTerminal::Nothing,
        BootWatcher::Supervisor(_) => OnTerminal::AllButLastWords,
        BootWatcher::Leader(_) => OnTerminal::All,
    };
    logs::start(&log, on_terminal, deployment.run.log_level)?;
    exit::leave_errors_to_rank_0(false);
    info!("shardrun-worker {}, {environment}", env!("CARGO_PKG_VERSION"));
    shardrun_shm::sweep(&format!("shardrun_{uid}_"))?
        .iter()
        .for_each(|name| info!("removed shared memory that a dead process left: {name}"));

    let beats = Beats {
        interval: deployment.supervision.heartbeat,
        timeout: deployment.supervision.heartbeat_timeout,
    };
    life::watch_parent(environment.starter, beats.interval)?;
    let share = placement::own_share(&world, &host, deployment.model.threads)?;
    let patience = Patience {
        spin: share.cores.is_some(),
        timeout: deployment.supervision.collective_timeout,
    };
    world.set_patience(patience);
    let page = Arc::new(MetricsPage::create(&prefix, world.rank())?);
    let step = Arc::new(AtomicU64::new(0));
    let hello = Hello {
        rank: world.rank() as u32,
        world_size: world.size() as u32,
        host: host.clone(),
        log: log.display().to_string(),
    };
    let rank = Rank { world, host, deployment, prefix, share, patience, page, step };
    let watcher = match boot.watcher {
        BootWatcher::Supervisor(path) => Watcher::Supervisor(path),
        BootWatcher::Leader(path) => Watcher::Leader(path),
    };
    let result = live(rank, &watcher, hello, beats);
    drop(scratch);
    result
}

/// Sets one of Open MPI's parameters, unless the user has. Only before any thread is started.
fn set_for_mpi(parameter: &str, value: &OsStr) {
    let name = format!("OMPI_MCA_{parameter}");
    if std::env::var_os(&name).is_none() {
        // SAFETY: the caller is the only thread.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Connects the lifeline, loads, and plays this rank's role.
fn live(rank: Rank, watcher: &Watcher, hello: Hello, beats: Beats) -> anyhow::Result<()> {
    let leads = rank.world.rank() == 0;
    let watch = match watcher {
        Watcher::Leader(path) if leads => Some(life::listen(path, beats)?),
        _ => None,
    };
    // The leader's socket is there before anyone connects to it.
    rank.world.barrier()?;
    if leads {
        roles::lead(rank, watcher, watch, hello, beats)
    } else {
        let life = Life::begin(watcher, None, hello, beats, rank.step.clone(), |_| {})?;
        signals::attend(|| {})?;
        let executor = load::shard(&rank, &life)?;
        roles::follow(rank, executor, &life)
    }
}

/// The deployment as this rank reads it: with a supervisor, settled by that; else the file,
/// the environment and the flags.
fn read(cli: &Cli, supervised: bool) -> anyhow::Result<Deployment> {
    if supervised {
        let text = std::fs::read_to_string(&cli.config)
            .with_context(|| format!("cannot read {}", cli.config.display()))?;
        return Ok(Deployment::from_resolved_toml(&text)?);
    }
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Deployment::load(&cli.config, env, &cli.set)?.deployment)
}

/// Rank 0 settles the deployment and tells everyone, its failure included, so that no rank waits
/// for one that has given up.
fn agree(
    world: &World,
    own_reading: anyhow::Result<Deployment>,
    prefix: &str,
    supervisor: Option<PathBuf>,
    uid: u32,
) -> anyhow::Result<Boot> {
    if world.rank() != 0 {
        let bytes = world.broadcast(&[])?;
        if bytes.is_empty() {
            bail!("rank 0 could not read the deployment");
        }
        return serde_json::from_slice(&bytes).context("cannot read what rank 0 broadcast");
    }
    let settled = own_reading.and_then(|own| settle(own, prefix, supervisor, uid));
    let bytes = match &settled {
        Ok(boot) => serde_json::to_vec(boot)?,
        Err(_) => Vec::new(),
    };
    world.broadcast(&bytes)?;
    settled
}

fn settle(
    mut deployment: Deployment,
    prefix: &str,
    supervisor: Option<PathBuf>,
    uid: u32,
) -> anyhow::Result<Boot> {
    if let Some(path) = supervisor {
        let deployment = deployment.to_toml()?;
        return Ok(Boot { deployment, watcher: BootWatcher::Supervisor(path) });
    }
    let model = match &deployment.model.source {
        ModelSource::Path(path) => path.clone(),
        source @ ModelSource::Pypi { .. } => {
            let cache = cache_dir(|name| std::env::var(name).ok());
            let sha256 = deployment.model.sha256.as_ref();
            let cached =
                cache.zip(sha256).and_then(|(dir, sha256)| source.cached_path(&dir, sha256));
            cached.filter(|path| path.is_file()).with_context(|| {
                format!("{source} is not in the cache; `shardrun fetch FILE` brings it there")
            })?
        }
    };
    deployment.run.shm_prefix =
        Some(ShmPrefix::parse(prefix).with_context(|| format!("{prefix:?} is no run.shm_prefix"))?);
    let run = RunDir::create(&deployment, &model, uid)?;
    let deployment = run.deployment.to_toml()?;
    Ok(Boot { deployment, watcher: BootWatcher::Leader(run.path.join("lifeline")) })
}

/// A world of the wrong size is explained, since its usual cause is far from its symptom.
fn check_world(
    world: &World,
    deployment: &Deployment,
    environment: &Environment,
) -> anyhow::Result<()> {
    let (size, expected) = (world.size(), deployment.model.tp_size);
    if size == expected {
        return Ok(());
    }
    let cause = match (size, environment.starter) {
        (1, Starter::Nobody) => format!(
            "; start it with `mpirun -n {expected} shardrun-worker ...` or `shardrun serve FILE`"
        ),
        (1, _) => "; the launcher and the MPI library don't understand each other, so every \
                   process believes it is alone: use `mpirun` of the MPI that shardrun was built \
                   with, or `srun --mpi=pmix`"
            .to_owned(),
        _ => format!("; start {expected} ranks"),
    };
    let started = if size == 1 { "1 rank was".to_owned() } else { format!("{size} ranks were") };
    bail!("{started} started and model.tp_size is {expected}{cause}")
}
