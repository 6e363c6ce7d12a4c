//! `shardrun serve`: a deployment's ranks started, watched, and served from, to its end.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::unistd::getuid;
use shardrun_config::{Deployment, Layout, Mode, RunDir, ready_text};
use shardrun_wire::lifeline::{RankId, ToRank, Watch};
use shardrun_wire::{Address, BindTo, Listener, Secret, own_address};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::cli::ServeArgs;
use crate::job::InJob;
use crate::nodes::{self, Nodes};
use crate::orchestrator::{Orchestrator, Reload};
use crate::run::{Ended as RunEnded, Endpoint, RunRecord, RunStage, StateFile};
use crate::starter::{self, Generation, Kind, Starter};
use crate::supervisor::{
    Ended, Event, Fleet, FleetConfig, JobEnd, Keeper, News, RestartPolicy, Rules,
};
use crate::{exit, fetch, memory, programs, progress};

/// How long an answer of Slurm's about the job counts for what comes after it.
const ASKED_LATELY: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &ServeArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let in_job = InJob::find()?.map(Arc::new);
    let (run, reload): (RunDir, Reload) = match &args.run_dir {
        Some(dir) => {
            let run = RunDir::open(dir)?;
            let path = run.path.clone();
            (run, Box::new(move || Ok(RunDir::open(&path)?.deployment)))
        }
        None => {
            let deployment = args.deployment.clone();
            let run = new_run(&deployment.load()?.deployment, in_job.as_deref())?;
            (run, Box::new(move || Ok(deployment.load()?.deployment)))
        }
    };
    let restarts = in_job.as_ref().map_or(0, |job| job.restarts());
    let host = nodes::host()?;
    let job = in_job.as_ref().map(|job| job.id());
    let mut state = StateFile::begin(&run.path, host.clone(), job, restarts)?;
    let result = serve(&run, reload, in_job.as_ref(), &host, &mut state, out);
    let ended = match &result {
        Ok(()) => RunEnded { code: 0, message: None },
        Err(error) => RunEnded { code: exit::code(error), message: Some(format!("{error:#}")) },
    };
    state.update(|state| {
        state.stage = RunStage::Ended;
        state.endpoint = None;
        state.ended = Some(ended);
    });
    result
}

/// Fetches the models, and makes the run's directory.
fn new_run(deployment: &Deployment, in_job: Option<&InJob>) -> anyhow::Result<RunDir> {
    let files = fetch::resolve_models(deployment, progress::on_stderr().as_mut())?;
    let uid = getuid().as_raw();
    let run = RunDir::create(deployment, &files, uid)?;
    let cluster = in_job.and_then(|job| job.allocation().cluster.clone());
    let job = in_job.map(|job| job.id().to_string());
    let record = RunRecord::of(&run, uid, job).on_cluster(cluster);
    record.write(&run.path)?;
    Ok(run)
}

fn serve(
    run: &RunDir,
    reload: Reload,
    in_job: Option<&Arc<InJob>>,
    host: &str,
    state: &mut StateFile,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let deployment = &run.deployment;
    if let Some(in_job) = in_job {
        in_job.take_over(&deployment.slurm, &run.path)?;
    }
    let nodes = Nodes::find(deployment, in_job.map(|job| job.allocation()))?;
    let layout = Layout::new(deployment, &nodes.allocation)?;
    if let Some(in_job) = in_job {
        let footprints = memory::footprints(deployment);
        memory::check_job(deployment, &footprints, &layout, in_job.allocation())?;
    }
    let kind = starter::kind(deployment, in_job.is_some());
    let uid = getuid().as_raw();
    for name in shardrun_shm::sweep(&format!("shardrun_{uid}_"))? {
        eprintln!("removed shared memory that a dead process left: {name}");
    }
    let prefix = deployment.run.shm_prefix.as_ref().context("a run has a shm_prefix")?;
    shardrun_shm::sweep(prefix.as_str())?;
    starter::write_layout(&run.config, &layout)?;

    let (sender, events) = channel();
    attend_signals(sender.clone(), in_job.cloned())?;
    if let Some(in_job) = in_job {
        in_job.watch_the_clock(&deployment.slurm, sender.clone())?;
    }
    let spread = nodes.here.is_none();
    let (lifelines, supervisor) = listen(run, host, spread, sender.clone())?;
    let starter = Starter {
        kind,
        program: programs::starter(kind).with_context(|| programs::no_starter(kind))?,
        worker: programs::worker().context(
            "there is no shardrun-worker beside shardrun or on PATH; `cargo build --release` makes it",
        )?,
        placements: Generation {
            deployment: deployment.clone(),
            layout,
            config: run.config.clone(),
        }
        .placements(),
        supervisor,
        host: host.to_owned(),
        slots: nodes.here.as_ref().map(|here| here.slots),
        job_nodes: nodes.job_nodes,
        uid,
    };
    let count = deployment.ranks();
    let ranks = if count == 1 { "1 rank".to_owned() } else { format!("{count} ranks") };
    eprintln!("starting {ranks} of {}; logs are in {}", deployment.name, run.path.display());

    let fleet = fleet(deployment, kind);
    let mut front = match deployment.mode {
        Mode::Orchestrator => {
            let allocation = nodes.allocation.clone();
            let ours = Orchestrator::start(run, host, allocation, sender.clone(), reload)?;
            Front::Ours(Box::new(ours))
        }
        Mode::Leader | Mode::Auto => Front::Leaders(lifelines.clone()),
    };
    let asks = sender.clone();
    let keeper = Keeper::new(fleet, starter, lifelines, (sender, events));
    let models: Vec<_> = deployment.models.iter().map(|model| model.name.clone()).collect();
    let ready = |state: &mut StateFile, out: &mut dyn Write, http: &str, metrics: &str| {
        // A closed pipe doesn't end what is being served.
        let _ = writeln!(out, "{}", ready_text(&deployment.name, http, metrics));
        let _ = out.flush();
        let (host, http, metrics) = (host.to_owned(), http.to_owned(), metrics.to_owned());
        state.update(|state| {
            state.stage = RunStage::Serving;
            state.endpoint = Some(Endpoint { host, http, metrics, models: models.clone() });
        });
    };
    let (mut job_end, mut asked) = (None, None::<Instant>);
    let result = keeper.run(|news| match (news, &mut front) {
        (News::Serving { addresses: Some((http, metrics)), .. }, Front::Leaders(_)) => {
            ready(state, out, &http, &metrics);
        }
        (News::Serving { instance, .. }, Front::Ours(orchestrator)) => {
            match orchestrator.serving(instance) {
                Ok(Some((http, metrics))) => ready(state, out, &http, &metrics),
                Ok(None) => {}
                Err(error) => eprintln!("instance {instance} serves nobody: {error:#}"),
            }
        }
        (News::Engine { id, engine }, Front::Ours(orchestrator)) => orchestrator.engine(id, engine),
        (News::Counted { id, host, words }, Front::Ours(orchestrator)) => {
            orchestrator.counted(id, &host, &words);
        }
        (News::Counted { id, host, words }, Front::Leaders(lifelines)) => {
            let counted = ToRank::Counted { rank: id.rank, host, words };
            lifelines.say(&RankId { rank: 0, ..id }, &counted);
        }
        (News::Gone { instance, ended, again }, Front::Ours(orchestrator)) => {
            if let Some((http, metrics)) = orchestrator.gone(instance, ended, again) {
                ready(state, out, &http, &metrics);
            }
        }
        // What was said first has begun the drain: a preempted job comes near its end, too.
        (News::JobEnds(why), _) => job_end = job_end.or(Some(why)),
        (News::AskForJob, _) => {
            // All ranks of a job get a signal at once.
            let lately = asked.is_some_and(|at| at.elapsed() < ASKED_LATELY);
            if let Some(in_job) = in_job.filter(|_| !lately) {
                asked = Some(Instant::now());
                in_job.look_for_preemption(asks.clone());
            }
        }
        (News::Drain, front) => {
            state.update(|state| state.stage = RunStage::Draining);
            if let Front::Ours(orchestrator) = front {
                orchestrator.drain();
            }
        }
        (News::States(instances), _) => state.update(|state| state.instances = instances),
        // Leaders in leader mode serve by themselves.
        (News::Serving { .. } | News::Engine { .. } | News::Gone { .. }, Front::Leaders(_)) => {}
    });
    match front {
        Front::Ours(orchestrator) => orchestrator.finish(),
        // The last to hold the listeners.
        Front::Leaders(lifelines) => drop(lifelines),
    }
    clean_up(run, prefix.as_str());
    if result.is_ok() {
        eprintln!("{} has ended", deployment.name);
    }
    let followed = in_job.map_or(Ok(()), |in_job| follow(in_job, run, job_end, &result));
    // What was lost weighs more than what could not follow.
    result?;
    followed
}

/// What follows in the job's place, if anything does.
fn follow(
    in_job: &InJob,
    run: &RunDir,
    job_end: Option<JobEnd>,
    result: &Result<(), Ended>,
) -> anyhow::Result<()> {
    let keys = &run.deployment.slurm;
    match (job_end, result) {
        (Some(JobEnd::TimeLimit), _) => in_job.after_time_limit(keys, &run.path)?,
        (Some(JobEnd::Preempted), _) => in_job.requeue_after("preempted", keys, &run.path)?,
        (None, Err(ended)) if ended.lost_a_node => {
            in_job.requeue_after("a node is lost", keys, &run.path)?;
        }
        (None, _) => {}
    }
    Ok(())
}

/// Who talks to clients.
enum Front {
    /// The leader of the only instance, reached by its lifeline.
    Leaders(Watch),
    /// This process.
    Ours(Box<Orchestrator>),
}

fn fleet(deployment: &Deployment, kind: Kind) -> Fleet {
    let times = &deployment.supervision;
    let orchestrated = deployment.mode == Mode::Orchestrator;
    let config = FleetConfig {
        rules: Rules {
            ready_timeout: deployment.launch.ready_timeout,
            last_words: kind.last_words(),
            starter_ends: kind.ends_with_ranks(),
            starter_is_rank: kind.is_rank(),
        },
        heartbeat_timeout: times.heartbeat_timeout,
        drain_timeout: times.drain_timeout,
        restarts: orchestrated.then_some(RestartPolicy {
            most: times.max_restarts,
            backoff: times.restart_backoff,
            backoff_max: times.restart_backoff_max,
        }),
    };
    let instances = deployment.instances().enumerate().map(|(number, model)| {
        (model.name.clone(), orchestrated.then(|| deployment.instance_name(number)))
    });
    Fleet::new(config, instances.collect(), Instant::now())
}

/// Opens the sockets that ranks connect to: one in the run's directory for those of this node, a port for
/// those of others.
fn listen(
    run: &RunDir,
    host: &str,
    spread: bool,
    events: Sender<Event>,
) -> anyhow::Result<(Watch, Vec<Address>)> {
    let path = run.path.join("lifeline");
    let unix = Listener::bind(&BindTo::Unix(path))
        .context("a shorter run.dir helps if the path has over 100 characters")?;
    let mut addresses = vec![unix.address()];
    let watch = Watch::listen(unix, events, Event::from)?;
    if spread {
        let secret = Secret::generate()?;
        let path = RunDir::secret_of(&run.config);
        // Of an earlier start of the same job.
        let _ = std::fs::remove_file(&path);
        secret.write_to(&path)?;
        let interface = run.deployment.launch.interface.as_deref();
        let tcp = Listener::bind(&BindTo::Tcp { host: own_address(interface, host)?, secret })?;
        addresses.push(tcp.address());
        watch.also_listen(tcp)?;
    }
    Ok((watch, addresses))
}

/// Removes what only a run needs that goes on.
fn clean_up(run: &RunDir, prefix: &str) {
    // What can't be removed is swept by the next start.
    let _ = shardrun_shm::remove_all(prefix);
    let _ = std::fs::remove_file(RunDir::secret_of(&run.config));
}

fn attend_signals(events: Sender<Event>, in_job: Option<Arc<InJob>>) -> anyhow::Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2]).context("cannot attend to signals")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            match (signal, &in_job) {
                // Slurm was asked for this one before the job's end.
                (SIGUSR2, Some(in_job)) => in_job.warned(events.clone()),
                (signal, _) => {
                    if events.send(Event::Signal(signal)).is_err() {
                        return;
                    }
                }
            }
        }
    })?;
    Ok(())
}
