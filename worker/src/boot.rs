//! From a fresh process to a rank that serves: MPI, the deployment, the lifeline, the model.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::{gethostname, getuid};
use serde::{Deserialize, Serialize};
use shardrun_comm::{Patience, World};
use shardrun_config::{
    Deployment, Layout, Mode, Model, ModelSource, NodeShare, RunDir, ShmPrefix, cache_dir,
};
use shardrun_metrics::{MetricsPage, ModelLabel, RankPages};
use shardrun_shm::{ScratchDir, rank_prefix};
use shardrun_wire::lifeline::{FromRank, Hello, RankId, Watch};
use shardrun_wire::{Address, BindTo, Listener, Secret, mpi_network, own_address};
use tracing::info;

use crate::cli::Cli;
use crate::environment::{Environment, Starter};
use crate::life::{self, Beats, Dial, Life, Report, Watcher};
use crate::logs::OnTerminal;
use crate::{exit, load, logs, placement, roles, signals};

/// How long ranks wait for each other before the deployment has said how long.
const FIRST_PATIENCE: Patience = Patience { spin: false, timeout: Duration::from_secs(60) };

/// What every rank knows before it loads its shard.
pub(crate) struct Rank {
    pub(crate) world: World,
    pub(crate) id: RankId,
    pub(crate) host: String,
    /// The run's directory.
    pub(crate) run_dir: PathBuf,
    pub(crate) deployment: Deployment,
    /// What this instance serves.
    pub(crate) model: Model,
    /// Prefix of the instance's shared memory.
    pub(crate) prefix: String,
    pub(crate) share: NodeShare,
    /// How long it waits for the others in an iteration; until it serves, `world` waits longer.
    pub(crate) patience: Patience,
    pub(crate) page: Arc<MetricsPage>,
    pub(crate) report: Report,
    /// What the leader shows of all ranks' pages.
    pub(crate) pages: Arc<RankPages>,
    pub(crate) beginning: Beginning,
}

/// The way from `main` to a rank that knows its deployment.
#[derive(Clone, Copy)]
pub(crate) struct Beginning {
    /// When `main` began.
    pub(crate) at: Instant,
    /// What MPI took to initialise.
    pub(crate) mpi: Duration,
}

/// What rank 0 tells the others before anything else.
#[derive(Serialize, Deserialize)]
struct Boot {
    /// The deployment with everything settled, as TOML.
    deployment: String,
    /// The run's directory.
    run_dir: PathBuf,
    /// Rank 0's node.
    host: String,
    /// Where all instances of a supervised deployment go.
    layout: Option<Layout>,
    watcher: Watcher,
}

/// Runs this rank, whose `main` began at `began`, to its end.
pub(crate) fn run(cli: &Cli, began: Instant) -> anyhow::Result<()> {
    let get = |name: &str| std::env::var(name).ok();
    let environment = Environment::read(get, std::process::id()).inspect_err(|error| {
        // All tasks come to it.
        exit::leave_errors_to_rank_0(error.task != 0);
    });
    let environment = if cli.alone { Environment::alone(environment?) } else { environment? };

    // Every rank reads the file, for the names that it needs before it can talk to rank 0, whose
    // reading is the one that counts.
    let own_reading = read(cli);
    let uid = getuid().as_raw();
    let seat = own_reading.as_ref().ok().filter(|own| own.shares_a_world());
    let seat = seat.map(|own| own.participant(environment.rank));
    let cli = &match seat {
        Some(Some((instance, _))) => Cli { instance: instance as u32, ..cli.clone() },
        Some(None) | None => cli.clone(),
    };
    let own_prefix = |own: &Deployment| match seat {
        Some(None) => own.run.shm_prefix.as_ref().map(|prefix| format!("{prefix}x_")),
        Some(Some(_)) | None => own.instance_prefix(cli.instance as usize),
    };
    let prefix = own_reading.as_ref().ok().and_then(own_prefix);
    let prefix = prefix.unwrap_or_else(|| environment.shm_prefix(uid));
    let rank_in_instance = seat.flatten().map_or(environment.rank, |(_, place)| place);
    let own_prefix = rank_prefix(&prefix, rank_in_instance);
    // Other instances' and the supervisor's names, too: who dies last on a node leaves nobody to do it.
    let of_run = own_reading.as_ref().ok().and_then(|own| own.run.shm_prefix.as_ref());
    let of_run = of_run.map_or_else(|| prefix.clone(), ToString::to_string);
    exit::on_abort_remove(of_run, own_prefix.clone());
    signals::block()?;
    let scratch = ScratchDir::create(&format!("{own_prefix}mpi"))?;
    for transport in ["vader", "sm"] {
        set_for_mpi(&format!("btl_{transport}_backing_directory"), scratch.path().as_os_str());
    }
    let interface = own_reading.as_ref().ok().and_then(|own| own.launch.interface.as_deref());
    if environment.one_node && !cli.spawned {
        // These would listen on the machine's interfaces, for peers that there aren't.
        set_for_mpi("btl", "^tcp,ofi,openib".as_ref());
    } else if let Some(interface) = interface.filter(|_| !environment.one_node)
        && let Some(interface) = mpi_network(interface)
    {
        set_for_mpi("btl_tcp_if_include", interface.as_ref());
    }
    signals::wait()?;

    let before_mpi = Instant::now();
    let mut world =
        if cli.alone { World::alone(FIRST_PATIENCE) } else { World::init(FIRST_PATIENCE)? };
    let beginning = Beginning { at: began, mpi: before_mpi.elapsed() };
    // A spawned rank has variables of what spawned it among its own.
    if !cli.spawned
        && let Err(error) = environment.check_world(world.size())
    {
        // All tasks come to it, and each would be rank 0.
        exit::leave_errors_to_rank_0(environment.rank != 0);
        return Err(error.into());
    }
    if let Some(seat) = seat {
        let (instance, place) = seat.unzip();
        world.part(instance.map(|instance| instance as u32), place.unwrap_or(0))?;
        if instance.is_none() {
            // There is nothing to do for it but to end with the others.
            world.finalize();
            return Ok(());
        }
    }
    let host = gethostname().context("cannot read the host's name")?;
    let host = host.to_string_lossy().into_owned();
    if cli.supervisor_host.as_ref() == Some(&host) {
        exit::on_orphaned_remove(&cli.supervisor, &cli.config);
    }
    exit::leave_errors_to_rank_0(world.rank() != 0);
    let boot = agree(&world, own_reading, cli, &Own { prefix: &prefix, host: &host, uid })?;
    let deployment = Deployment::from_resolved_toml(&boot.deployment)?;
    let model = deployment.instances().nth(cli.place()).with_context(|| {
        let instances = deployment.instances().count();
        format!("--place is {}: the deployment has {instances} instances", cli.place())
    })?;
    let model = model.clone();
    check_world(&world, &model, &environment)?;

    let log_dir = deployment.run.log_dir.clone().context("a settled deployment has run.log_dir")?;
    let log_dir = match deployment.mode {
        Mode::Orchestrator => log_dir.join(deployment.instance_name(cli.place())),
        Mode::Auto | Mode::Leader => log_dir,
    };
    let log = logs::path(&log_dir, world.rank(), &host);
    let on_terminal = match &boot.watcher {
        _ if world.rank() != 0 => OnTerminal::Nothing,
        Watcher::Supervisor(_) if deployment.mode == Mode::Orchestrator => OnTerminal::Nothing,
        Watcher::Supervisor(_) => OnTerminal::AllButLastWords,
        Watcher::Leader(..) => OnTerminal::All,
    };
    logs::start(&log, on_terminal, deployment.run.log_level)?;
    exit::leave_errors_to_rank_0(false);
    info!("shardrun-worker {}, {environment}, on {host}", env!("CARGO_PKG_VERSION"));
    shardrun_shm::sweep(&format!("shardrun_{uid}_"))?
        .iter()
        .for_each(|name| info!("removed shared memory that a dead process left: {name}"));

    let beats = Beats {
        interval: deployment.supervision.heartbeat,
        timeout: deployment.supervision.heartbeat_timeout,
    };
    life::watch_parent(environment.starter, beats.interval)?;
    let (share, named_gpu, local_rank) = match &boot.layout {
        Some(layout) => {
            let place = placement::place(layout, cli.place(), world.rank())?;
            let share = placement::laid_out(layout, place, &host, &model)?;
            (share, place.gpu, place.local_rank)
        }
        None => {
            let share = placement::own_share(&world, &host, model.threads)?;
            let of_rank = |gpus: &[u32]| gpus.get(world.rank()).copied();
            let named = model.gpu_device_ids.of(0).and_then(of_rank);
            (share, named, environment.local_rank.unwrap_or(world.local_rank()))
        }
    };
    if let Some(gpu) = placement::gpu(named_gpu, local_rank, &environment) {
        info!("GPU {gpu} is this rank's; no backend uses it");
    }
    let patience = Patience {
        spin: share.cores.is_some(),
        timeout: deployment.supervision.collective_timeout,
    };
    let page = Arc::new(MetricsPage::create(&prefix, world.rank())?);
    let scraped = match deployment.mode {
        Mode::Orchestrator => &boot.watcher.dial().host,
        Mode::Auto | Mode::Leader => &boot.host,
    };
    let report = Report {
        step: Arc::new(AtomicU64::new(0)),
        page: (*scraped != host).then(|| page.clone()),
    };
    let pages = Arc::new(RankPages::new(ModelLabel::plain(), None));
    let id = RankId { instance: cli.instance, attempt: cli.attempt, rank: world.rank() as u32 };
    let hello = Hello {
        id,
        world_size: world.size() as u32,
        host: host.clone(),
        pid: std::process::id().cast_signed(),
        log: log.display().to_string(),
    };
    let run_dir = boot.run_dir;
    let rank = Rank {
        world,
        id,
        host,
        run_dir,
        deployment,
        model,
        prefix,
        share,
        patience,
        page,
        report,
        pages,
        beginning,
    };
    let result = live(rank, boot.watcher, hello, beats);
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
fn live(mut rank: Rank, watcher: Watcher, hello: Hello, beats: Beats) -> anyhow::Result<()> {
    let leads = rank.world.rank() == 0;
    let (watcher, watch) = meet(&rank, watcher, beats)?;
    // From now on lifelines tell of deaths; and one rank may have the model in its page cache while another
    // reads it over the network.
    let timeout = rank.deployment.launch.ready_timeout;
    rank.world.set_patience(Patience { timeout, ..rank.patience });
    if leads {
        roles::lead(rank, &watcher, watch, hello, beats)
    } else {
        let life = Life::begin(&watcher, None, hello, beats, rank.report.clone(), |_| {})?;
        signals::attend({
            let life = life.speaker();
            move |signal| {
                life.say(&FromRank::Signalled { signal });
            }
        });
        let file = load::open(&rank)?;
        let loaded = load::shard(&rank, &file, &life)?;
        drop(file);
        roles::follow(rank, loaded, &life)
    }
}

/// A leader that watches opens its socket, before anyone connects, and tells where it is: ranks on other
/// nodes reach it by a port. Collective.
fn meet(rank: &Rank, watcher: Watcher, beats: Beats) -> anyhow::Result<(Watcher, Option<Watch>)> {
    let Watcher::Leader(of_run) = watcher else {
        rank.world.barrier()?;
        return Ok((watcher, None));
    };
    let one_node = rank.world.on_one_node()?;
    if rank.world.rank() != 0 {
        let bytes = rank.world.broadcast(&[])?;
        let told = serde_json::from_slice(&bytes).context("cannot read where rank 0 listens")?;
        return Ok((Watcher::Leader(told), None));
    }
    let listen = || -> anyhow::Result<(Dial, Watch)> {
        let (to, secret) = match one_node {
            true => (of_run.bind_to()?, None),
            false => {
                let interface = rank.deployment.launch.interface.as_deref();
                let host = own_address(interface, &rank.host)?;
                let secret = Secret::generate()?;
                (BindTo::Tcp { host, secret: secret.clone() }, Some(secret))
            }
        };
        let listener = Listener::bind(&to)?;
        let host = rank.host.clone();
        let dial = Dial { addresses: vec![listener.address()], host, secret };
        Ok((dial, life::listen(listener, beats, rank.pages.clone())?))
    };
    let listened = listen();
    let told = match &listened {
        Ok((dial, _)) => serde_json::to_vec(dial)?,
        Err(_) => Vec::new(),
    };
    rank.world.broadcast(&told)?;
    let (dial, watch) = listened?;
    Ok((Watcher::Leader(dial), Some(watch)))
}

/// The deployment as this rank reads it: with a supervisor, settled by that; else the file,
/// the environment and the flags.
fn read(cli: &Cli) -> anyhow::Result<Deployment> {
    if cli.is_supervised() {
        let text = std::fs::read_to_string(&cli.config)
            .with_context(|| format!("cannot read {}", cli.config.display()))?;
        return Ok(Deployment::from_resolved_toml(&text)?);
    }
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let deployment = Deployment::load(&cli.config, env, &cli.set)?.deployment;
    if deployment.mode == Mode::Orchestrator {
        bail!(
            "{} is served in orchestrator mode, whose gateway is outside the ranks' worlds: start it \
             with `shardrun serve {}`",
            deployment.name,
            cli.config.display()
        );
    }
    Ok(deployment)
}

/// What a rank knows of itself before the deployment is settled.
struct Own<'a> {
    prefix: &'a str,
    host: &'a str,
    uid: u32,
}

/// Rank 0 settles the deployment and tells everyone, its failure included, so that no rank waits
/// for one that has given up.
fn agree(
    world: &World,
    own_reading: anyhow::Result<Deployment>,
    cli: &Cli,
    own: &Own<'_>,
) -> anyhow::Result<Boot> {
    if world.rank() != 0 {
        let bytes = world.broadcast(&[])?;
        if bytes.is_empty() {
            bail!("rank 0 on {} could not read the deployment", own.host);
        }
        return serde_json::from_slice(&bytes).context("cannot read what rank 0 broadcast");
    }
    let settled = own_reading.and_then(|deployment| match cli.is_supervised() {
        true => settled_by_supervisor(&deployment, cli, own.host),
        false => settle(deployment, own),
    });
    let bytes = match &settled {
        Ok(boot) => serde_json::to_vec(boot)?,
        Err(_) => Vec::new(),
    };
    world.broadcast(&bytes)?;
    settled
}

/// What the supervisor has left in the run's directory, beside the deployment.
fn settled_by_supervisor(
    deployment: &Deployment,
    cli: &Cli,
    own_host: &str,
) -> anyhow::Result<Boot> {
    let layout = RunDir::layout_of(&cli.config);
    let text = std::fs::read_to_string(&layout)
        .with_context(|| format!("cannot read {}", layout.display()))?;
    let layout = serde_json::from_str(&text)
        .with_context(|| format!("{} is no layout", layout.display()))?;
    let remote = cli.supervisor.iter().any(|address| matches!(address, Address::Tcp(_)));
    let secret = match remote {
        true => Some(Secret::read_from(&RunDir::secret_of(&cli.config))?),
        false => None,
    };
    let host = cli.supervisor_host.clone().unwrap_or_default();
    let dial = Dial { addresses: cli.supervisor.clone(), host, secret };
    let folder = cli.config.parent().unwrap_or(Path::new("/"));
    Ok(Boot {
        deployment: deployment.to_toml()?,
        run_dir: folder.to_owned(),
        host: own_host.to_owned(),
        layout: Some(layout),
        watcher: Watcher::Supervisor(dial),
    })
}

fn settle(mut deployment: Deployment, own: &Own<'_>) -> anyhow::Result<Boot> {
    let files = deployment.models.iter().map(model_file).collect::<anyhow::Result<Vec<_>>>()?;
    let prefix = own.prefix;
    deployment.run.shm_prefix =
        Some(ShmPrefix::parse(prefix).with_context(|| format!("{prefix:?} is no run.shm_prefix"))?);
    let run = RunDir::create(&deployment, &files, own.uid)?;
    Ok(Boot {
        deployment: run.deployment.to_toml()?,
        run_dir: run.path.clone(),
        host: own.host.to_owned(),
        layout: None,
        watcher: Watcher::Leader(Dial {
            addresses: vec![Address::Unix(run.path.join("lifeline"))],
            host: own.host.to_owned(),
            secret: None,
        }),
    })
}

/// The model's file on this machine; nothing is fetched here.
fn model_file(model: &Model) -> anyhow::Result<PathBuf> {
    let source = match &model.source {
        ModelSource::Path(path) => return Ok(path.clone()),
        source @ ModelSource::Pypi { .. } => source,
    };
    let cache = cache_dir(|name| std::env::var(name).ok());
    let cached =
        cache.zip(model.sha256.as_ref()).and_then(|(dir, sha256)| source.cached_path(&dir, sha256));
    cached.filter(|path| path.is_file()).with_context(|| {
        format!("{source} is not in the cache; `shardrun fetch FILE` brings it there")
    })
}

/// A world of the wrong size is explained, since its usual cause is far from its symptom.
fn check_world(world: &World, model: &Model, environment: &Environment) -> anyhow::Result<()> {
    let (size, expected) = (world.size(), model.tp_size);
    if size == expected {
        return Ok(());
    }
    let cause = match (size, environment.starter) {
        (1, Starter::Nobody) => format!(
            "; start it with `mpirun -n {expected} shardrun-worker ...` or `shardrun serve FILE`"
        ),
        (1, Starter::Pmix) => format!(
            "; start {expected} ranks. If so many were started, the launcher and the MPI library don't \
             understand each other, so every process believes it is alone: {}",
            Starter::Pmix.cure()
        ),
        _ => format!("; start {expected} ranks"),
    };
    let started = if size == 1 { "1 rank was".to_owned() } else { format!("{size} ranks were") };
    bail!("{started} started and model.tp_size is {expected}{cause}")
}
