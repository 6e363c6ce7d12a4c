//! The supervisor's hands: events are waited for, orders carried out.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use shardrun_config::keys;
use shardrun_wire::EngineStream;
use shardrun_wire::lifeline::{RankId, Watch};

use super::cause::Ended;
use super::fleet::{Event, Fleet, Gone, InstanceState, JobEnd, Lost, Next, Order};
use super::instance::Action;
use super::output::StarterOutput;
use super::probe;
use crate::logs::attempt_line;
use crate::starter::{StartCommand, Starter};

const TICK: Duration = Duration::from_millis(100);

/// What those who serve need to know.
pub(crate) enum News<'a> {
    /// An instance takes requests; at these addresses of HTTP and metrics, if it has a gateway.
    Serving { instance: u32, addresses: Option<(String, String)> },
    /// A leader's engine.
    Engine { id: RankId, engine: EngineStream },
    /// What a rank on another node has counted, for whoever is scraped.
    Counted { id: RankId, host: String, words: Vec<u64> },
    /// Nothing of an instance is left; whether it is started again.
    Gone { instance: u32, ended: Option<&'a Ended>, again: bool },
    /// Take no new requests, and say when the running ones have ended.
    Drain,
    /// The job will be ended.
    JobEnds(JobEnd),
    /// Find out whether the job is about to be ended, and say so.
    AskForJob,
    /// Something has changed.
    States(Vec<InstanceState>),
}

/// Keeps a deployment until nothing of it is left.
pub(crate) struct Keeper {
    fleet: Fleet,
    starter: Starter,
    lifelines: Watch,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// Starters that run, by their instances; of instances that share a world, by the first.
    running: BTreeMap<u32, Running>,
    /// The latest attempt of each instance.
    expected: BTreeMap<u32, u32>,
}

/// A starter that runs.
struct Running {
    /// It leads its process group.
    pid: Pid,
    output: StarterOutput,
    scratch: Option<PathBuf>,
}

impl Keeper {
    pub(crate) fn new(
        fleet: Fleet,
        starter: Starter,
        lifelines: Watch,
        (sender, events): (Sender<Event>, Receiver<Event>),
    ) -> Self {
        Self {
            fleet,
            starter,
            lifelines,
            sender,
            events,
            running: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// Runs until it is over; `tell` is called with what happens. The error is what the deployment ended of,
    /// if it ended by itself.
    pub(crate) fn run(mut self, mut tell: impl FnMut(News<'_>)) -> Result<(), Ended> {
        let mut last = None;
        // The first orders wait for no event.
        let mut patience = Duration::ZERO;
        loop {
            let mut orders = match self.events.recv_timeout(std::mem::replace(&mut patience, TICK))
            {
                Ok(event) => self.fleet.handle(event, Instant::now()),
                // `self` holds a sender.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Vec::new(),
            };
            orders.extend(self.fleet.tick(Instant::now()));
            let changed = !orders.is_empty();
            for order in orders {
                if let Some(ended) = self.carry_out(order, &mut tell) {
                    last = Some(ended);
                }
            }
            if changed {
                tell(News::States(self.fleet.states()));
            }
            if self.fleet.is_over() {
                return last.map_or(Ok(()), Err);
            }
        }
    }

    /// Carries out an order; gives what an instance ended of, if that is not followed by another start.
    fn carry_out(&mut self, order: Order, tell: &mut impl FnMut(News<'_>)) -> Option<Ended> {
        match order {
            Order::Print(text) => eprintln!("{text}"),
            Order::Place { instance, placement } => {
                self.starter.placements.insert(instance, placement);
            }
            Order::Start { instance, attempt } => {
                self.lifelines.expect(instance, attempt);
                self.expected.insert(instance, attempt);
                let all = self.starter.placements.len();
                let ready = self.expected.values().filter(|&&it| it == attempt).count() == all;
                let started = match self.starter.shares_a_world() {
                    // With the last of them.
                    true if !ready => Ok(()),
                    true => self.start(&self.expected.clone().into_iter().collect::<Vec<_>>()),
                    false => self.start(&[(instance, attempt)]),
                };
                if let Err(error) = started {
                    let reason = format!("{error:#}");
                    let _ = self.sender.send(Event::NotStarted { instance, attempt, reason });
                }
            }
            Order::Of { instance, attempt, action } => self.act(instance, attempt, action, tell),
            Order::Drain => tell(News::Drain),
            Order::JobEnds(why) => tell(News::JobEnds(why)),
            Order::AskForJob => tell(News::AskForJob),
            Order::Engine { id, engine } => tell(News::Engine { id, engine }),
            Order::Gone { instance, how, .. } => return self.gone(instance, how, tell),
        }
        None
    }

    fn act(
        &mut self,
        instance: u32,
        attempt: u32,
        action: Action,
        tell: &mut impl FnMut(News<'_>),
    ) {
        let of = if self.starter.shares_a_world() { 0 } else { instance };
        let starter = self.running.get(&of).map(|running| running.pid);
        match action {
            Action::Print(text) => eprintln!("{text}"),
            Action::Serving { addresses } => tell(News::Serving { instance, addresses }),
            Action::TellLeader(message) => {
                self.lifelines.say(&RankId { instance, attempt, rank: 0 }, &message);
            }
            Action::Counted { rank, host, words } => {
                tell(News::Counted { id: RankId { instance, attempt, rank }, host, words });
            }
            // Gone already is as good, here and below.
            Action::KillRanks(pids) => pids.into_iter().for_each(|pid| {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }),
            Action::StopStarter => {
                if let Some(pid) = starter {
                    let _ = kill(pid, self.starter.kind.stop_signal());
                }
            }
            Action::KillStarter => {
                if let Some(pid) = starter {
                    let _ = killpg(pid, Signal::SIGKILL);
                }
            }
            Action::Probe { rank, host, pid } => {
                let id = RankId { instance, attempt, rank };
                let sender = self.sender.clone();
                match pid {
                    // At once: it is about to be killed.
                    Some(pid) => {
                        let _ = sender.send(Event::Probed { id, why: probe::process(pid) });
                    }
                    None => {
                        let probe = move || {
                            let _ = sender.send(Event::Probed { id, why: probe::node(&host) });
                        };
                        // Without the thread the reason stays unknown.
                        let _ = std::thread::Builder::new().name("probe".into()).spawn(probe);
                    }
                }
            }
        }
    }

    fn gone(&mut self, instance: u32, how: Gone, tell: &mut impl FnMut(News<'_>)) -> Option<Ended> {
        self.lifelines.forget(instance);
        let running = self.running.remove(&instance);
        let mut notices = String::new();
        if let Some(Running { output, scratch, .. }) = running {
            notices = output.notices();
            if let Some(scratch) = scratch {
                let _ = std::fs::remove_dir_all(scratch);
            }
        }
        if let Some(prefix) = self.starter.shm_prefix(instance) {
            // What can't be removed is swept by the next start.
            let _ = shardrun_shm::remove_all(&prefix);
        }
        let (ended, next) = match how {
            Gone::Ended => (None, Next::Nothing),
            Gone::Lost { outcome, next } => {
                let program = self.starter.kind.program();
                let ended = match outcome {
                    Lost::Outcome(outcome) => outcome.result(program, &notices).err(),
                    Lost::NotStarted(reason) => Some(Ended::not_started(reason)),
                };
                (ended, next)
            }
        };
        let again = matches!(next, Next::Again(_));
        tell(News::Gone { instance, ended: ended.as_ref(), again });
        let ended = ended?;
        match next {
            Next::Again(after) => {
                eprintln!("{ended}\nstarting it again in {after:.1?}");
                None
            }
            Next::GivenUp if self.fleet.recovers() => {
                eprintln!("{ended}\nit is not started again (supervision.max_restarts)");
                Some(ended)
            }
            Next::Nothing if self.fleet.recovers() => {
                eprintln!("{ended}");
                None
            }
            Next::GivenUp | Next::Nothing => Some(ended),
        }
    }

    /// Starts a starter of these instances, each with its attempt, in a process group of its own, so that
    /// Ctrl-C reaches the supervisor alone.
    fn start(&mut self, instances: &[(u32, u32)]) -> anyhow::Result<()> {
        let &(instance, attempt) = instances.first().context("there is nothing to start")?;
        let StartCommand { argv, set, unset, scratch, log, files } =
            self.starter.command(instance, attempt)?;
        let (program, arguments) = argv.split_first().context("the command is empty")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // The ranks read the resolved deployment, in which these have been followed.
        for name in keys::env_names() {
            command.env_remove(name);
        }
        for name in unset {
            command.env_remove(name);
        }
        command.envs(set);
        if let Some(scratch) = &scratch {
            let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch);
            make.with_context(|| format!("cannot make {}", scratch.display()))?;
        }
        for (path, text) in files {
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut log_file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let earlier = log_file.metadata().is_ok_and(|meta| meta.len() > 0);
        for &(instance, attempt) in instances.iter().filter(|_| earlier) {
            // A full disk is no reason not to start.
            let _ = log_file.write_all(attempt_line(instance, attempt).as_bytes());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", PathBuf::from(program).display()))?;
        let stdout = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
        let output = StarterOutput::show(stdout.into_iter().chain(stderr).collect(), log_file)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        self.running.insert(instance, Running { pid, output, scratch });
        let (sender, instances) = (self.sender.clone(), instances.to_vec());
        std::thread::Builder::new().name("starter".into()).spawn(move || {
            if let Ok(status) = child.wait() {
                for (instance, attempt) in instances {
                    // The receiver is gone when nobody asks any more.
                    let _ = sender.send(Event::StarterEnded { instance, attempt, status });
                }
            }
        })?;
        Ok(())
    }
}
