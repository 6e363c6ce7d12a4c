//! Keeping all instances of a deployment: which runs, which is started again, and when it is over.
//!
//! In leader mode there is one, and its end is the deployment's. In orchestrator mode a lost instance
//! is started again, and a stop first lets the gateway's requests finish.

mod stopping;

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shardrun_wire::EngineStream;
use shardrun_wire::lifeline::{self, FromRank, Hello, Pulse, RankId, Silence};

use super::cause::{Outcome, Why};
use super::instance::{self, Action, Instance, Rules, Stage};
use super::restarts::{RestartPolicy, Restarts};
use crate::starter::Placement;
use stopping::RankSignals;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A rank has connected.
    Hello { hello: Hello, local: bool },
    /// A rank said something.
    Said { id: RankId, message: FromRank },
    /// A rank's lifeline ended.
    Closed { id: RankId },
    /// A leader offers its engine.
    Engine { id: RankId, engine: EngineStream },
    /// What was found about a silent rank.
    Probed { id: RankId, why: Why },
    /// An instance's starter has ended.
    StarterEnded { instance: u32, attempt: u32, status: ExitStatus },
    /// An instance's starter could not be started.
    NotStarted { instance: u32, attempt: u32, reason: String },
    /// Somebody asks to stop.
    Signal(i32),
    /// The job will be ended: running requests have until then, if that is known.
    JobEnds { why: JobEnd, until: Option<Instant> },
    /// All requests that the gateway had taken have ended.
    Idle,
    /// Another instance is to be kept.
    Add { instance: u32, model: String, name: String, placement: Placement },
    /// An instance is not needed any more; its requests have been handed on.
    Remove { instance: u32 },
}

impl From<lifeline::Event> for Event {
    fn from(event: lifeline::Event) -> Self {
        match event {
            lifeline::Event::Hello { hello, local } => Self::Hello { hello, local },
            lifeline::Event::Said { id, message } => Self::Said { id, message },
            lifeline::Event::Engine { id, engine } => Self::Engine { id, engine },
            lifeline::Event::Closed { id, .. } => Self::Closed { id },
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Tell the user.
    Print(String),
    /// Remember where an instance goes.
    Place { instance: u32, placement: Placement },
    /// Start an instance's ranks.
    Start { instance: u32, attempt: u32 },
    /// Do something for an instance.
    Of { instance: u32, attempt: u32, action: Action },
    /// A leader's engine is there.
    Engine { id: RankId, engine: EngineStream },
    /// Nothing of an instance is left; it will be started again unless that is said otherwise.
    Gone { instance: u32, how: Gone },
    /// Requests may finish: take no new ones, and say when the running ones have ended.
    Drain,
    /// The job will be ended.
    JobEnds(JobEnd),
    /// Find out whether a rank was asked to end because the job will be.
    AskForJob,
}

/// Why a job ends while it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// Its time is over.
    TimeLimit,
    /// Others need its nodes.
    Preempted,
}

/// How an instance has gone.
#[derive(Debug)]
pub(crate) enum Gone {
    /// As it was told to.
    Ended,
    /// It was lost, or did not come to be.
    Lost { outcome: Lost, next: Next },
}

/// What follows the loss of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is started again, after so long.
    Again(Duration),
    /// It is not started again.
    GivenUp,
    /// Nothing: all is ending, or it was to end.
    Nothing,
}

/// What an instance was lost of.
#[derive(Debug)]
pub(crate) enum Lost {
    Outcome(Outcome),
    NotStarted(String),
}

/// What the fleet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Serve,
    /// The gateway drains until then.
    Finish {
        until: Instant,
    },
    End,
}

/// One instance, over its attempts.
#[derive(Debug)]
struct Kept {
    /// In messages; `None` if there is no other.
    name: Option<String>,
    model: String,
    attempt: u32,
    state: State,
    restarts: Restarts,
    wanted: bool,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Running(Box<Instance>),
    GivenUp,
    Ended,
}

/// How an instance is doing, for those who ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceState {
    pub(crate) instance: u32,
    pub(crate) model: String,
    pub(crate) state: String,
    pub(crate) restarts: u32,
    pub(crate) ranks: Vec<RankState>,
}

/// How a rank is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RankState {
    pub(crate) rank: u32,
    pub(crate) host: String,
    pub(crate) pid: i32,
    pub(crate) state: String,
    pub(crate) log: String,
}

/// What rules a fleet.
#[derive(Clone, Debug)]
pub(crate) struct FleetConfig {
    pub(crate) rules: Rules,
    pub(crate) heartbeat_timeout: Duration,
    /// How long running requests may take after somebody asked to stop.
    pub(crate) drain_timeout: Duration,
    /// `None` if the loss of an instance is the end.
    pub(crate) restarts: Option<RestartPolicy>,
}

/// The state of a deployment.
#[derive(Debug)]
pub(crate) struct Fleet {
    config: FleetConfig,
    aim: Aim,
    kept: BTreeMap<u32, Kept>,
    /// Whether any instance ever has.
    has_served: bool,
    pulse: Pulse,
    rank_signals: RankSignals,
}

impl Fleet {
    /// A fleet of these instances, each with its model and, if there are several, its name.
    pub(crate) fn new(
        config: FleetConfig,
        instances: Vec<(String, Option<String>)>,
        now: Instant,
    ) -> Self {
        let pulse = Pulse::new(config.heartbeat_timeout);
        let mut fleet = Self {
            config,
            aim: Aim::Serve,
            kept: BTreeMap::new(),
            has_served: false,
            pulse,
            rank_signals: RankSignals::new(),
        };
        for (number, (model, name)) in instances.into_iter().enumerate() {
            fleet.keep(number as u32, model, name, now);
        }
        fleet
    }

    /// Takes in an event.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Vec<Order> {
        use instance::Event as Of;
        match event {
            Event::Hello { hello, local } => {
                let id = hello.id;
                self.pulse.begin(id, &hello.host, now);
                self.tell_attempt(id, Of::Hello { hello, local }, now)
            }
            Event::Said { id, message } => {
                match message {
                    FromRank::Goodbye => self.pulse.forget(&id),
                    _ => self.pulse.heard(&id, now),
                }
                if let FromRank::Signalled { signal } = message {
                    return self.on_rank_signal(id, signal, now);
                }
                self.tell_attempt(id, Of::Said { rank: id.rank, message }, now)
            }
            Event::Closed { id } => {
                self.pulse.forget(&id);
                self.tell_attempt(id, Of::Closed { rank: id.rank }, now)
            }
            Event::Engine { id, engine } => {
                let current = self.kept.get(&id.instance).is_some_and(|kept| {
                    kept.attempt == id.attempt && matches!(kept.state, State::Running(_))
                });
                if current { vec![Order::Engine { id, engine }] } else { Vec::new() }
            }
            Event::Probed { id, why } => {
                self.tell_attempt(id, Of::Probed { rank: id.rank, why }, now)
            }
            Event::StarterEnded { instance, attempt, status } => {
                let id = RankId { instance, attempt, rank: 0 };
                self.tell_attempt(id, Of::StarterEnded(status), now)
            }
            Event::NotStarted { instance, attempt, reason } => {
                self.lost(instance, attempt, Lost::NotStarted(reason), now)
            }
            Event::Signal(signal) => self.on_signal(signal, now),
            Event::JobEnds { why, until } => self.on_job_end(why, until, now),
            Event::Idle => match self.aim {
                Aim::Finish { until } => self.end(until - now, now),
                Aim::Serve | Aim::End => Vec::new(),
            },
            Event::Add { instance, .. } if self.aim == Aim::End => {
                vec![Order::Gone { instance, how: Gone::Ended }]
            }
            Event::Add { instance, model, name, placement } => {
                self.keep(instance, model, Some(name), now);
                vec![Order::Place { instance, placement }]
            }
            Event::Remove { instance } => self.remove(instance, now),
        }
    }

    /// Lets time pass; to be called several times a second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        for Silence { id, since, .. } in self.pulse.tick(now) {
            let event = instance::Event::Silent { rank: id.rank, silence: now - since };
            orders.extend(self.tell_attempt(id, event, now));
        }
        if matches!(self.aim, Aim::Finish { until } if now >= until) {
            orders.push(Order::Print("the running requests did not finish in time".into()));
            orders.extend(self.end(Duration::ZERO, now));
        }
        orders.extend(self.tick_signals(now));
        let numbers: Vec<u32> = self.kept.keys().copied().collect();
        for number in numbers {
            orders.extend(self.tick_one(number, now));
        }
        orders
    }

    /// Whether nothing is left, and nothing will come.
    pub(crate) fn is_over(&self) -> bool {
        let given_up = |kept: &Kept| matches!(kept.state, State::GivenUp);
        let over = |kept: &Kept| matches!(kept.state, State::Ended | State::GivenUp);
        // A gateway without an instance may be asked to load a model, but not once all are given up: its
        // nodes serve others better.
        let idle = self.config.restarts.is_some() && self.aim != Aim::End;
        self.kept.values().all(over) && (!idle || self.kept.values().any(given_up))
    }

    /// Whether lost instances are started again.
    pub(crate) fn recovers(&self) -> bool {
        self.config.restarts.is_some()
    }

    /// How each instance is doing.
    pub(crate) fn states(&self) -> Vec<InstanceState> {
        let state = |(&instance, kept): (&u32, &Kept)| InstanceState {
            instance,
            model: kept.model.clone(),
            state: match &kept.state {
                State::Waiting { .. } => "restarting",
                State::GivenUp => "given up",
                State::Ended => "ended",
                State::Running(running) => match running.stage() {
                    Stage::Starting => "starting",
                    Stage::Serving => "serving",
                    Stage::Draining => "draining",
                    Stage::Ending => "ending",
                },
            }
            .to_owned(),
            restarts: kept.attempt,
            ranks: match &kept.state {
                State::Running(running) => running.ranks().map(rank_state).collect(),
                _ => Vec::new(),
            },
        };
        self.kept.iter().map(state).collect()
    }

    fn keep(&mut self, number: u32, model: String, name: Option<String>, now: Instant) {
        let policy =
            RestartPolicy { most: 0, backoff: Duration::ZERO, backoff_max: Duration::ZERO };
        let restarts = Restarts::new(self.config.restarts.unwrap_or(policy));
        let state = State::Waiting { until: now };
        self.kept.insert(number, Kept { name, model, attempt: 0, state, restarts, wanted: true });
    }

    fn tick_one(&mut self, number: u32, now: Instant) -> Vec<Order> {
        let Some(kept) = self.kept.get_mut(&number) else { return Vec::new() };
        let attempt = kept.attempt;
        match &mut kept.state {
            State::Waiting { until } if now >= *until => {
                let running = Instance::new(kept.name.clone(), self.config.rules, now);
                kept.state = State::Running(Box::new(running));
                vec![Order::Start { instance: number, attempt }]
            }
            State::Running(running) => {
                let actions = running.tick(now);
                self.carry_out(number, actions, now)
            }
            State::Waiting { .. } | State::GivenUp | State::Ended => Vec::new(),
        }
    }

    /// An event of an instance, unless it is of an attempt that is over.
    fn tell_attempt(&mut self, id: RankId, event: instance::Event, now: Instant) -> Vec<Order> {
        let RankId { instance, attempt, .. } = id;
        match self.kept.get_mut(&instance) {
            Some(Kept { attempt: current, state: State::Running(running), .. })
                if *current == attempt =>
            {
                let actions = running.handle(event, now);
                self.carry_out(instance, actions, now)
            }
            _ => Vec::new(),
        }
    }

    fn carry_out(&mut self, number: u32, actions: Vec<Action>, now: Instant) -> Vec<Order> {
        let Some(kept) = self.kept.get_mut(&number) else { return Vec::new() };
        let attempt = kept.attempt;
        let mut orders = Vec::new();
        for action in actions {
            if let Action::Serving { .. } = action {
                kept.restarts.serving(now);
                self.has_served = true;
            }
            orders.push(match action {
                Action::Print(text) => Order::Print(text),
                action => Order::Of { instance: number, attempt, action },
            });
        }
        let State::Running(running) = &kept.state else { return orders };
        if let Some(outcome) = running.outcome() {
            orders.extend(self.lost(number, attempt, Lost::Outcome(outcome), now));
        }
        orders
    }

    /// Nothing of an attempt is left.
    fn lost(&mut self, number: u32, attempt: u32, lost: Lost, now: Instant) -> Vec<Order> {
        let serving = self.aim != Aim::End;
        let Some(kept) = self.kept.get_mut(&number) else { return Vec::new() };
        if kept.attempt != attempt {
            return Vec::new();
        }
        let ranks = match &kept.state {
            State::Running(running) => {
                running.ranks().map(|rank| rank.hello.id).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        };
        ranks.iter().for_each(|id| self.pulse.forget(id));
        let as_told = matches!(&lost, Lost::Outcome(outcome) if outcome.as_told());
        let how = if as_told || !kept.wanted || !serving {
            kept.state = State::Ended;
            if as_told { Gone::Ended } else { Gone::Lost { outcome: lost, next: Next::Nothing } }
        } else if let Some(until) = kept.restarts.lost(now) {
            kept.state = State::Waiting { until };
            kept.attempt += 1;
            Gone::Lost { outcome: lost, next: Next::Again(until - now) }
        } else {
            kept.state = State::GivenUp;
            Gone::Lost { outcome: lost, next: Next::GivenUp }
        };
        vec![Order::Gone { instance: number, how }]
    }

    fn tell_all(&mut self, event: impl Fn() -> instance::Event, now: Instant) -> Vec<Order> {
        let numbers: Vec<u32> = self.kept.keys().copied().collect();
        numbers.into_iter().flat_map(|number| self.tell_one(number, event(), now)).collect()
    }

    fn remove(&mut self, number: u32, now: Instant) -> Vec<Order> {
        if let Some(kept) = self.kept.get_mut(&number) {
            kept.wanted = false;
        }
        let grace = self.config.drain_timeout;
        self.tell_one(number, instance::Event::Drain { grace }, now)
    }

    /// An event that ends an instance, whichever its attempt.
    fn tell_one(&mut self, number: u32, event: instance::Event, now: Instant) -> Vec<Order> {
        let Some(kept) = self.kept.get_mut(&number) else { return Vec::new() };
        match &mut kept.state {
            State::Waiting { .. } => {
                kept.state = State::Ended;
                vec![Order::Gone { instance: number, how: Gone::Ended }]
            }
            State::Running(running) => {
                let actions = running.handle(event, now);
                self.carry_out(number, actions, now)
            }
            State::GivenUp | State::Ended => Vec::new(),
        }
    }
}

fn rank_state(rank: &instance::Rank) -> RankState {
    RankState {
        rank: rank.hello.id.rank,
        host: rank.hello.host.clone(),
        pid: rank.hello.pid,
        state: match (rank.connected, rank.loaded) {
            (false, _) => "gone",
            (true, false) => "loading",
            (true, true) => "running",
        }
        .to_owned(),
        log: rank.hello.log.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
