//! Where those wait who are not known yet.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::SocketError;

/// How often it is said at most that somebody was turned away.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

/// Bounds how many connections may be unknown at a time; others wait in the kernel.
#[derive(Debug)]
pub(crate) struct Door {
    most: usize,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    standing: usize,
    warned: Option<Instant>,
    /// Turned away since.
    unsaid: u64,
}

/// A place at the door, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Door>);

impl Door {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default(), left: Condvar::new() })
    }

    /// Waits for a place.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        let mut state = self
            .left
            .wait_while(self.lock(), |state| state.standing == self.most)
            .unwrap_or_else(PoisonError::into_inner);
        state.standing += 1;
        Place(self.clone())
    }

    /// Says that somebody was turned away, unless that was said just before: whoever can reach a port
    /// must not be able to fill a log.
    fn turned_away(&self, error: &SocketError) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.warned.is_some_and(|warned| now - warned < BETWEEN_WARNINGS) {
            state.unsaid += 1;
            return;
        }
        warn!(%error, not_mentioned = state.unsaid, "a connection was turned away");
        (state.warned, state.unsaid) = (Some(now), 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Who stood here was turned away.
    pub(crate) fn turned_away(&self, error: &SocketError) {
        self.0.turned_away(error);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().standing -= 1;
        self.0.left.notify_one();
    }
}
