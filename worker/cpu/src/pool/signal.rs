//! Waiting for a condition: a short spin, then sleep.

use std::{
    hint,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

/// Looks before others are let run on the core in between: some ten microseconds.
const PATIENCE: u32 = 1_000;
/// Looks from then on between two such occasions.
const LOOKS_A_YIELD: u32 = 64;

/// Wakes the one thread that waits for a condition on atomics.
///
/// Neither side misses the other: the waiter sets `asleep` and then looks at the condition, the
/// notifier makes the condition true and then looks at `asleep`, all sequentially consistent.
#[derive(Default)]
pub(super) struct Signal {
    asleep: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// Returns once `ready` is true. Looks `spins` times, then sleeps between notifications.
    pub(super) fn wait(&self, spins: u32, ready: impl Fn() -> bool) {
        for look in 0..spins {
            if ready() {
                return;
            }
            hint::spin_loop();
            // What takes this long may be waiting for this very core.
            if look > PATIENCE && look.is_multiple_of(LOOKS_A_YIELD) {
                thread::yield_now();
            }
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, SeqCst);
        while !ready() {
            guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.store(false, SeqCst);
    }

    /// To be called after the condition was made true with a sequentially consistent store.
    pub(super) fn notify(&self) {
        if self.asleep.load(SeqCst) {
            // Taking the lock waits until the waiter either sleeps or has seen the condition.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_one();
        }
    }

    /// Whether a thread sleeps here.
    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(SeqCst)
    }
}
