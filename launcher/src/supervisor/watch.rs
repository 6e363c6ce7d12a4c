//! The supervisor's hands: events are waited for, actions carried out.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use shardrun_wire::lifeline::Watch;

use super::{Action, Event, Outcome, Supervisor};

const TICK: Duration = Duration::from_millis(100);

/// Watches a deployment until nothing of it is left. `mpirun` leads its process group; `ready` is
/// called with the addresses.
pub(crate) fn watch(
    mut supervisor: Supervisor,
    events: &Receiver<Event>,
    lifelines: &Watch,
    mpirun: Pid,
    mut ready: impl FnMut(&str, &str),
) -> Outcome {
    loop {
        let now = Instant::now;
        let mut actions = match events.recv_timeout(TICK) {
            Ok(event) => supervisor.handle(event, now()),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            // The signal thread holds a sender, and never ends.
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
        };
        actions.extend(supervisor.tick(now()));
        for action in actions {
            match action {
                Action::Print(text) => eprintln!("{text}"),
                Action::Ready { http, metrics } => ready(&http, &metrics),
                Action::TellLeader(message) => lifelines.say(0, &message),
                // Gone already is as good, here and below.
                Action::KillRanks(pids) => pids.into_iter().for_each(|pid| {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }),
                Action::KillMpirun => {
                    let _ = killpg(mpirun, Signal::SIGKILL);
                }
            }
        }
        if let Some(outcome) = supervisor.outcome() {
            return outcome;
        }
    }
}
