//! Keeping a deployment in leader mode: events in, actions out.
//!
//! ```text
//! starting ──ready──> serving ──signal──> draining ──goodbyes──> over
//!     └──────────────────┴────────────────────┴──a rank or mpirun is lost──> ending ──> over
//! ```
//!
//! The supervisor is outside MPI, so no rank's death can reach it. What it knows comes from the
//! ranks' lifelines and from mpirun's end; [`watch()`] carries out what it decides.

mod cause;
mod output;
mod watch;

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use shardrun_wire::lifeline::{Event as LifeEvent, FromRank, Hello, Pulse, ToRank};

pub(crate) use cause::{Cause, Ended, Outcome};
pub(crate) use output::MpirunOutput;
pub(crate) use watch::watch;

/// How long mpirun may take to say what a rank died of before the other ranks are killed.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long mpirun may take to end after its ranks are gone.
const MPIRUN_END: Duration = Duration::from_secs(2);
/// How long a deployment may take to end beyond its drain timeout.
const DRAIN_MARGIN: Duration = Duration::from_secs(3);

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// On a lifeline.
    Life(LifeEvent),
    /// mpirun has ended.
    MpirunEnded(ExitStatus),
    /// Somebody asks to stop.
    Signal(i32),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell the user.
    Print(String),
    /// The deployment serves at these addresses.
    Ready { http: String, metrics: String },
    /// Tell the leader.
    TellLeader(ToRank),
    /// SIGKILL to these processes of this machine, whose lifelines are open: they still run.
    KillRanks(Vec<i32>),
    /// SIGKILL to mpirun.
    KillMpirun,
}

/// A rank as its lifeline shows it.
#[derive(Debug)]
struct Rank {
    hello: Hello,
    pid: i32,
    connected: bool,
    failure: Option<String>,
    goodbye: bool,
}

#[derive(Debug)]
enum Phase {
    Starting,
    Serving,
    Draining { until: Instant },
    Ending { cause: Cause, kill_at: Option<Instant>, give_up_at: Instant },
}

/// The state of one deployment.
#[derive(Debug)]
pub(crate) struct Supervisor {
    phase: Phase,
    ranks: BTreeMap<u32, Rank>,
    pulse: Pulse,
    mpirun: Option<ExitStatus>,
    drain_timeout: Duration,
}

impl Supervisor {
    pub(crate) fn new(heartbeat_timeout: Duration, drain_timeout: Duration) -> Self {
        Self {
            phase: Phase::Starting,
            ranks: BTreeMap::new(),
            pulse: Pulse::new(heartbeat_timeout),
            mpirun: None,
            drain_timeout,
        }
    }

    /// Takes in an event.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Life(event) => self.on_lifeline(event, now),
            Event::MpirunEnded(status) => self.on_mpirun(status, now),
            Event::Signal(signal) => self.on_signal(signal, now),
        }
    }

    /// Lets time pass; to be called several times a second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let silent = self.pulse.tick(now);
        match &mut self.phase {
            Phase::Ending { kill_at, give_up_at, .. } => {
                if kill_at.is_some_and(|at| now >= at) {
                    *kill_at = None;
                    return self.kill_ranks();
                }
                if now >= *give_up_at && self.mpirun.is_none() {
                    return vec![Action::KillMpirun];
                }
                Vec::new()
            }
            Phase::Draining { until } if now >= *until => {
                let mut actions =
                    vec![Action::Print("the ranks did not end in time; killing them".into())];
                actions.extend(self.end_now(Cause::Stopped, now));
                actions
            }
            _ => match silent.first() {
                Some(&(rank, silence)) => self.end_now(Cause::Silent { rank, silence }, now),
                None => Vec::new(),
            },
        }
    }

    /// How it ended, once everything has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let status = self.mpirun?;
        if self.ranks.values().any(|rank| rank.connected) {
            return None;
        }
        let cause = match &self.phase {
            Phase::Ending { cause, .. } => cause.clone(),
            _ if status.success() => Cause::Stopped,
            _ => Cause::Mpirun,
        };
        let rank = cause.rank().and_then(|rank| self.ranks.get(&rank));
        Some(Outcome {
            cause,
            mpirun: status,
            rank: rank.map(|rank| (rank.hello.clone(), rank.pid)),
            connected_ever: !self.ranks.is_empty(),
        })
    }

    fn on_lifeline(&mut self, event: LifeEvent, now: Instant) -> Vec<Action> {
        match event {
            LifeEvent::Hello { hello, pid } => {
                self.pulse.heard(hello.rank, now);
                let rank = Rank { hello, pid, connected: true, failure: None, goodbye: false };
                self.ranks.insert(rank.hello.rank, rank);
                Vec::new()
            }
            LifeEvent::Said { rank, message } => {
                self.pulse.heard(rank, now);
                self.on_message(rank, message)
            }
            LifeEvent::Closed { rank } => {
                self.pulse.forget(rank);
                let Some(state) = self.ranks.get_mut(&rank) else { return Vec::new() };
                state.connected = false;
                if state.goodbye || matches!(self.phase, Phase::Ending { .. }) {
                    return Vec::new();
                }
                let cause = match state.failure.take() {
                    Some(reason) => Cause::Failed { rank, reason, serving: self.has_served() },
                    None => Cause::Lost { rank },
                };
                // mpirun knows the signal, and says it by its exit code.
                let kill_at = Some(now + LAST_WORDS);
                self.phase = Phase::Ending { cause, kill_at, give_up_at: now + MPIRUN_END };
                Vec::new()
            }
        }
    }

    fn on_message(&mut self, rank: u32, message: FromRank) -> Vec<Action> {
        let Some(state) = self.ranks.get_mut(&rank) else { return Vec::new() };
        match message {
            // The leader's log is on the terminal already.
            FromRank::Loaded { .. } if rank == 0 => Vec::new(),
            FromRank::Loaded { load_ms, shard, weight_bytes, kv_cache_bytes } => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                vec![Action::Print(format!(
                    "rank {rank} on {}: loaded in {:.1} s: {:.1} MiB of weights, {:.1} MiB of KV \
                     cache; {shard}",
                    state.hello.host,
                    load_ms as f64 / 1e3,
                    mib(weight_bytes),
                    mib(kv_cache_bytes),
                ))]
            }
            FromRank::Ready { http, metrics } => {
                if matches!(self.phase, Phase::Starting) {
                    self.phase = Phase::Serving;
                }
                vec![Action::Ready { http, metrics }]
            }
            FromRank::Failed { reason } => {
                state.failure = Some(reason);
                Vec::new()
            }
            FromRank::Goodbye => {
                state.goodbye = true;
                self.pulse.forget(rank);
                Vec::new()
            }
            FromRank::Hello(_) | FromRank::Alive { .. } | FromRank::Loading { .. } => Vec::new(),
        }
    }

    fn on_mpirun(&mut self, status: ExitStatus, now: Instant) -> Vec<Action> {
        self.mpirun = Some(status);
        let left = self.ranks.values().any(|rank| rank.connected);
        match &mut self.phase {
            // Its exit code was all that was waited for.
            Phase::Ending { kill_at, .. } => {
                *kill_at = None;
                self.kill_ranks()
            }
            _ if status.success() && !left => Vec::new(),
            _ => self.end_now(Cause::Mpirun, now),
        }
    }

    fn on_signal(&mut self, signal: i32, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Starting => {
                let mut actions =
                    vec![Action::Print("stopping before the deployment was ready".into())];
                actions.extend(self.end_now(Cause::Stopped, now));
                actions
            }
            Phase::Serving => {
                self.phase = Phase::Draining { until: now + self.drain_timeout + DRAIN_MARGIN };
                let name = cause::signal_name(signal);
                vec![
                    Action::Print(format!(
                        "{name}: running requests may finish within {:?}, new ones are refused; \
                         once more stops at once",
                        self.drain_timeout
                    )),
                    Action::TellLeader(ToRank::Drain),
                ]
            }
            Phase::Draining { .. } => self.end_now(Cause::Stopped, now),
            Phase::Ending { .. } => self.kill_ranks(),
        }
    }

    fn has_served(&self) -> bool {
        !matches!(self.phase, Phase::Starting)
    }

    fn end_now(&mut self, cause: Cause, now: Instant) -> Vec<Action> {
        self.phase = Phase::Ending { cause, kill_at: None, give_up_at: now + MPIRUN_END };
        let mut actions = self.kill_ranks();
        if self.ranks.is_empty() && self.mpirun.is_none() {
            actions.push(Action::KillMpirun);
        }
        actions
    }

    fn kill_ranks(&self) -> Vec<Action> {
        let running = self.ranks.values().filter(|rank| rank.connected);
        let pids: Vec<i32> = running.map(|rank| rank.pid).collect();
        if pids.is_empty() { Vec::new() } else { vec![Action::KillRanks(pids)] }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
