//! Keeping one instance, from its start to its end: events in, actions out.
//!
//! ```text
//! starting ──serves──> serving ──drain──> draining ──goodbyes──> over
//!     └───────────────────┴───────────────────┴──a rank or the starter is lost──> ending ──> over
//! ```
//!
//! What is known comes from the ranks' lifelines and from the end of the starter: the process that
//! started the ranks and lives as long as they do, mpirun or srun for two.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use shardrun_wire::lifeline::{FromRank, Hello, ToRank};

use super::cause::{Cause, Outcome, Why};

/// How long the starter may take to end once it was asked to.
pub(super) const STARTER_END: Duration = Duration::from_secs(2);
/// How long a drain may take to end beyond its timeout.
const DRAIN_MARGIN: Duration = Duration::from_secs(3);

/// What happened to an instance.
#[derive(Debug)]
pub(crate) enum Event {
    /// A rank has connected.
    Hello { hello: Hello, local: bool },
    /// A rank said something.
    Said { rank: u32, message: FromRank },
    /// A rank's lifeline ended.
    Closed { rank: u32 },
    /// A rank has given no sign of life for so long.
    Silent { rank: u32, silence: Duration },
    /// What was found about a silent rank.
    Probed { rank: u32, why: Why },
    /// The starter has ended.
    StarterEnded(ExitStatus),
    /// The running requests may finish, if there is time for it.
    Drain { grace: Duration },
    /// A rank got a signal that nobody else got.
    Signalled { rank: u32, signal: i32 },
    /// It is to end at once.
    Stop,
}

/// What is to be done for an instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell the user.
    Print(String),
    /// Its leader takes requests; at these addresses of HTTP and metrics, if it has a gateway.
    Serving { addresses: Option<(String, String)> },
    /// Tell the leader.
    TellLeader(ToRank),
    /// A rank on another node than what is scraped has said what it has counted.
    Counted { rank: u32, host: String, words: Vec<u64> },
    /// SIGKILL to these processes of this machine, whose lifelines are open: they still run.
    KillRanks(Vec<i32>),
    /// Find out why a rank is silent; it has a pid if its process is one of this machine.
    Probe { rank: u32, host: String, pid: Option<i32> },
    /// Ask the starter to end its ranks, wherever they are.
    StopStarter,
    /// SIGKILL to the starter.
    KillStarter,
}

/// A rank as its lifeline shows it.
#[derive(Debug)]
pub(crate) struct Rank {
    pub(crate) hello: Hello,
    /// Whether its process is one of this machine, by the kernel's word.
    local: bool,
    pub(crate) connected: bool,
    pub(crate) loaded: bool,
    failure: Option<String>,
    goodbye: bool,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Starting,
    Serving,
    Draining,
    Ending,
}

#[derive(Debug)]
enum Phase {
    Starting { until: Instant },
    Serving,
    Draining { until: Instant },
    Ending { cause: Cause, kill_at: Option<Instant>, give_up_at: Instant, gave_up: bool },
}

/// What rules an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) ready_timeout: Duration,
    /// How long the starter may take to say what a rank died of before the other ranks are killed.
    pub(crate) last_words: Duration,
    /// Whether the starter ends by itself when its ranks do.
    pub(crate) starter_ends: bool,
    /// Whether it is the only rank itself.
    pub(crate) starter_is_rank: bool,
}

/// The state of one instance, in one attempt.
#[derive(Debug)]
pub(crate) struct Instance {
    /// How it is called in messages; nothing if it is the only one.
    name: Option<String>,
    phase: Phase,
    ranks: BTreeMap<u32, Rank>,
    starter: Option<ExitStatus>,
    rules: Rules,
}

impl Instance {
    pub(crate) fn new(name: Option<String>, rules: Rules, now: Instant) -> Self {
        let phase = Phase::Starting { until: now + rules.ready_timeout };
        Self { name, phase, ranks: BTreeMap::new(), starter: None, rules }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.phase {
            Phase::Starting { .. } => Stage::Starting,
            Phase::Serving => Stage::Serving,
            Phase::Draining { .. } => Stage::Draining,
            Phase::Ending { .. } => Stage::Ending,
        }
    }

    pub(crate) fn ranks(&self) -> impl Iterator<Item = &Rank> {
        self.ranks.values()
    }

    /// Takes in an event.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Hello { hello, local } => self.on_hello(hello, local),
            Event::Said { rank, message } => self.on_message(rank, message),
            Event::Closed { rank } => self.on_closed(rank, now),
            Event::Silent { rank, silence } => self.on_silence(rank, silence, now),
            Event::Probed { rank, why: found } => {
                if let Phase::Ending { cause: Cause::Silent { rank: of, why, .. }, .. } =
                    &mut self.phase
                    && *of == rank
                {
                    *why = found;
                }
                Vec::new()
            }
            Event::StarterEnded(status) => self.on_starter(status, now),
            Event::Drain { grace } => match self.phase {
                Phase::Starting { .. } => self.end_now(Cause::Stopped, now),
                Phase::Serving => {
                    self.phase = Phase::Draining { until: now + grace + DRAIN_MARGIN };
                    let grace_ms = grace.as_millis() as u64;
                    vec![Action::TellLeader(match grace_ms {
                        0 => ToRank::Stop,
                        _ => ToRank::Drain { grace_ms },
                    })]
                }
                Phase::Draining { .. } | Phase::Ending { .. } => Vec::new(),
            },
            Event::Signalled { rank, signal } => match self.phase {
                Phase::Draining { .. } | Phase::Ending { .. } => Vec::new(),
                _ => self.end_now(Cause::Signalled { rank, signal }, now),
            },
            Event::Stop => match self.phase {
                Phase::Ending { .. } => self.kill_ranks(),
                _ => self.end_now(Cause::Stopped, now),
            },
        }
    }

    /// Lets time pass; to be called several times a second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.phase {
            Phase::Ending { kill_at, give_up_at, gave_up, .. } => {
                if kill_at.is_some_and(|at| now >= at) {
                    *kill_at = None;
                    let mut actions = self.kill_ranks();
                    actions.extend(self.stop_starter());
                    return actions;
                }
                if now >= *give_up_at && self.starter.is_none() && !*gave_up {
                    *gave_up = true;
                    return vec![Action::KillStarter];
                }
                Vec::new()
            }
            Phase::Draining { until } if now >= *until => {
                let text = self.say("its ranks did not end in time; killing them");
                let mut actions = vec![Action::Print(text)];
                actions.extend(self.end_now(Cause::Stopped, now));
                actions
            }
            Phase::Starting { until } if now >= *until => {
                let after = self.rules.ready_timeout;
                let heard = self.ranks.values().filter(|rank| rank.connected);
                let (heard, loaded) =
                    (heard.clone().count(), heard.filter(|rank| rank.loaded).count());
                self.end_now(Cause::NotReady { after, heard, loaded }, now)
            }
            _ => Vec::new(),
        }
    }

    /// How it ended, once everything has that can be known to.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let status = self.starter?;
        let gave_up = matches!(self.phase, Phase::Ending { gave_up: true, .. });
        let here = |rank: &Rank| rank.connected && (!gave_up || rank.local);
        if self.ranks.values().any(here) {
            return None;
        }
        let cause = match &self.phase {
            Phase::Ending { cause, .. } => cause.clone(),
            Phase::Draining { .. } if status.success() || self.all_have_gone() => Cause::Stopped,
            _ if self.all_have_gone() => Cause::Unasked,
            _ => Cause::Starter,
        };
        let rank = cause.rank().and_then(|rank| self.ranks.get(&rank));
        Some(Outcome {
            instance: self.name.clone(),
            cause,
            starter: status,
            starter_is_rank: self.rules.starter_is_rank,
            rank: rank.map(|rank| rank.hello.clone()),
            connected_ever: !self.ranks.is_empty(),
        })
    }

    fn on_hello(&mut self, hello: Hello, local: bool) -> Vec<Action> {
        let number = hello.id.rank;
        let rank =
            Rank { hello, local, connected: true, loaded: false, failure: None, goodbye: false };
        self.ranks.insert(number, rank);
        match self.phase {
            // It came when the others were already being ended.
            Phase::Ending { kill_at: None, .. } => self.kill_ranks(),
            _ => Vec::new(),
        }
    }

    fn on_closed(&mut self, rank: u32, now: Instant) -> Vec<Action> {
        let Some(state) = self.ranks.get_mut(&rank) else { return Vec::new() };
        state.connected = false;
        if matches!(self.phase, Phase::Ending { .. }) {
            return Vec::new();
        }
        if state.goodbye {
            let stop = !self.rules.starter_ends && self.all_have_gone();
            return if stop { vec![Action::StopStarter] } else { Vec::new() };
        }
        let cause = match state.failure.take() {
            Some(reason) => Cause::Failed { rank, reason, serving: self.has_served() },
            None => Cause::Lost { rank },
        };
        // The starter knows the signal, and says it by its exit code.
        self.phase = Phase::Ending {
            cause,
            kill_at: Some(now + self.rules.last_words),
            give_up_at: now + self.rules.last_words + STARTER_END,
            gave_up: false,
        };
        Vec::new()
    }

    fn on_silence(&mut self, rank: u32, silence: Duration, now: Instant) -> Vec<Action> {
        let Some(state) = self.ranks.get(&rank) else { return Vec::new() };
        if matches!(self.phase, Phase::Ending { .. }) || !state.connected {
            return Vec::new();
        }
        let (host, pid) = (state.hello.host.clone(), state.local.then_some(state.hello.pid));
        // Looked at first: a dead process tells less.
        let mut actions = vec![Action::Probe { rank, host, pid }];
        let cause = Cause::Silent { rank, silence, why: Why::Unknown };
        actions.extend(self.end_now(cause, now));
        actions
    }

    fn on_message(&mut self, rank: u32, message: FromRank) -> Vec<Action> {
        let Some(state) = self.ranks.get_mut(&rank) else { return Vec::new() };
        match message {
            FromRank::Loaded { load_ms, shard, weight_bytes, kv_cache_bytes } => {
                state.loaded = true;
                if rank == 0 && self.name.is_none() {
                    // The leader's log is on the terminal already.
                    return Vec::new();
                }
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                let text = format!(
                    "rank {rank} on {}: loaded in {:.1} s: {:.1} MiB of weights, {:.1} MiB of KV \
                     cache; {shard}",
                    state.hello.host,
                    load_ms as f64 / 1e3,
                    mib(weight_bytes),
                    mib(kv_cache_bytes),
                );
                vec![Action::Print(self.say(&text))]
            }
            FromRank::Ready { http, metrics } => self.serving(Some((http, metrics))),
            FromRank::Serving => self.serving(None),
            FromRank::Failed { reason } => {
                state.failure = Some(reason);
                Vec::new()
            }
            FromRank::Goodbye => {
                state.goodbye = true;
                Vec::new()
            }
            FromRank::Counted { words } => {
                vec![Action::Counted { rank, host: state.hello.host.clone(), words }]
            }
            FromRank::Alive { .. } | FromRank::Loading { .. } | FromRank::Signalled { .. } => {
                Vec::new()
            }
        }
    }

    fn serving(&mut self, addresses: Option<(String, String)>) -> Vec<Action> {
        if !matches!(self.phase, Phase::Starting { .. }) {
            return Vec::new();
        }
        self.phase = Phase::Serving;
        vec![Action::Serving { addresses }]
    }

    fn on_starter(&mut self, status: ExitStatus, now: Instant) -> Vec<Action> {
        self.starter = Some(status);
        let all_have_gone = self.all_have_gone();
        let left = self.ranks.values().any(|rank| rank.connected);
        match &mut self.phase {
            // Its exit code was all that was waited for.
            Phase::Ending { kill_at, .. } => {
                *kill_at = None;
                self.kill_ranks()
            }
            _ if !left && (status.success() || all_have_gone) => Vec::new(),
            // What it has said last, and that it has, is still on its way.
            _ if left && self.rules.starter_is_rank => Vec::new(),
            _ => self.end_now(Cause::Starter, now),
        }
    }

    /// A sentence about it.
    fn say(&self, text: &str) -> String {
        match &self.name {
            Some(name) => format!("{name}: {text}"),
            None => text.to_owned(),
        }
    }

    fn has_served(&self) -> bool {
        !matches!(self.phase, Phase::Starting { .. })
    }

    fn end_now(&mut self, cause: Cause, now: Instant) -> Vec<Action> {
        let give_up_at = now + STARTER_END;
        self.phase = Phase::Ending { cause, kill_at: None, give_up_at, gave_up: false };
        let mut actions = self.kill_ranks();
        actions.extend(self.stop_starter());
        actions
    }

    /// Where it doesn't end by itself when the ranks of this machine are killed.
    fn stop_starter(&self) -> Option<Action> {
        let all_local = !self.ranks.is_empty() && self.ranks.values().all(|rank| rank.local);
        let ends = self.starter.is_some() || (all_local && self.rules.starter_ends);
        (!ends).then_some(Action::StopStarter)
    }

    /// Whether all ranks have said goodbye.
    fn all_have_gone(&self) -> bool {
        let mut ranks = self.ranks.values();
        ranks.len() > 0 && ranks.all(|rank| rank.goodbye && !rank.connected)
    }

    fn kill_ranks(&self) -> Vec<Action> {
        let here = |rank: &&Rank| rank.connected && rank.local;
        let pids: Vec<i32> = self.ranks.values().filter(here).map(|rank| rank.hello.pid).collect();
        if pids.is_empty() { Vec::new() } else { vec![Action::KillRanks(pids)] }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
