//! One deployment at a time, and one deployment for several tests.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use crate::deployment::Deployment;

/// The right to have a deployment: the tests of one program run in parallel, and drills with clocks in
/// them must not disturb each other. Programs run one after the other.
#[derive(Debug)]
pub(crate) struct Turn(());

static TAKEN: Mutex<bool> = Mutex::new(false);
static FREE: Condvar = Condvar::new();

/// Waits for the turn.
pub(crate) fn turn() -> Turn {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken {
        taken = FREE.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
    *taken = true;
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        FREE.notify_one();
    }
}

/// A deployment that the tests of one file share: started by the first that asks, ended with the
/// last that has it, and started again if another asks after that.
#[derive(Debug)]
pub struct Shared {
    current: Mutex<Weak<Deployment>>,
}

impl Shared {
    /// One that nobody has asked for.
    #[must_use]
    pub const fn new() -> Self {
        Self { current: Mutex::new(Weak::new()) }
    }

    /// The deployment; `start` gives it when there is none.
    ///
    /// # Errors
    /// As `start`.
    pub fn get(
        &self,
        start: impl FnOnce() -> anyhow::Result<Deployment>,
    ) -> anyhow::Result<Arc<Deployment>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = current.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(start()?);
        *current = Arc::downgrade(&started);
        Ok(started)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}
