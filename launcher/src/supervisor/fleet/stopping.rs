//! What makes a fleet stop: signals, the end of its job, and signals that its ranks got.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shardrun_wire::lifeline::RankId;

use super::{Aim, Fleet, JobEnd, Kept, Order, State};
use crate::supervisor::cause::signal_name;
use crate::supervisor::instance::{Event as Of, Stage};

/// How long a signal that a rank got may be one that everybody gets: the supervisor then gets it, too, or
/// hears of the job that it will end.
const EVERYBODYS: Duration = Duration::from_secs(2);

/// Signals that ranks got of which nothing has followed yet.
pub(super) type RankSignals = BTreeMap<RankId, (i32, Instant)>;

impl Fleet {
    /// This process got a signal.
    pub(super) fn on_signal(&mut self, signal: i32, now: Instant) -> Vec<Order> {
        match self.aim {
            Aim::Serve => self.stop(&signal_name(signal), now + self.config.drain_timeout, now),
            Aim::Finish { .. } | Aim::End => self.stop_all(now),
        }
    }

    /// The job ends.
    pub(super) fn on_job_end(
        &mut self,
        why: JobEnd,
        until: Option<Instant>,
        now: Instant,
    ) -> Vec<Order> {
        let told = match why {
            JobEnd::TimeLimit => "the time limit is near",
            JobEnd::Preempted => "the job is being preempted",
        };
        let mut orders = vec![Order::JobEnds(why)];
        // Something else may have begun it.
        if self.aim == Aim::Serve {
            let until = until.unwrap_or(now + self.config.drain_timeout);
            orders.extend(self.stop(told, until, now));
        }
        orders
    }

    /// A rank got a signal: what follows depends on who else does.
    pub(super) fn on_rank_signal(&mut self, id: RankId, signal: i32, now: Instant) -> Vec<Order> {
        if self.aim != Aim::Serve {
            return Vec::new();
        }
        self.rank_signals.entry(id).or_insert((signal, now));
        vec![Order::AskForJob]
    }

    /// Signals that nobody but ranks got. In leader mode they ask the whole to end; an instance among
    /// others is lost.
    pub(super) fn tick_signals(&mut self, now: Instant) -> Vec<Order> {
        if self.aim != Aim::Serve {
            self.rank_signals.clear();
        }
        let mut orders = Vec::new();
        while let Some((&id, &(signal, at))) = self.rank_signals.first_key_value()
            && now - at >= EVERYBODYS
        {
            self.rank_signals.remove(&id);
            orders.extend(if self.recovers() {
                self.tell_attempt(id, Of::Signalled { rank: id.rank, signal }, now)
            } else {
                self.rank_signals.clear();
                let why = format!("rank {} got {}", id.rank, signal_name(signal));
                self.stop(&why, now + self.config.drain_timeout, now)
            });
        }
        orders
    }

    /// Lets running requests finish until then, if anything serves.
    fn stop(&mut self, why: &str, until: Instant, now: Instant) -> Vec<Order> {
        let ready = |kept: &Kept| matches!(&kept.state, State::Running(running) if running.stage() == Stage::Serving);
        // Requests of an instance that is just being started again are to finish, too.
        let serving = match self.config.restarts {
            Some(_) => self.has_served,
            None => self.kept.values().any(ready),
        };
        if !serving {
            let said = Order::Print(format!("{why}: stopping before the deployment was ready"));
            return std::iter::once(said).chain(self.stop_all(now)).collect();
        }
        let grace = until.saturating_duration_since(now);
        let said = format!(
            "{why}: running requests may finish within {grace:.0?}, new ones are refused; once more \
             stops at once"
        );
        let mut orders = vec![Order::Print(said), Order::Drain];
        if self.recovers() {
            self.aim = Aim::Finish { until };
        } else {
            orders.extend(self.end(grace, now));
        }
        orders
    }

    /// Lets all instances end, with so much time for their requests.
    pub(super) fn end(&mut self, grace: Duration, now: Instant) -> Vec<Order> {
        self.aim = Aim::End;
        self.tell_all(|| Of::Drain { grace }, now)
    }

    fn stop_all(&mut self, now: Instant) -> Vec<Order> {
        self.aim = Aim::End;
        self.tell_all(|| Of::Stop, now)
    }
}
