//! A point within a task.

use std::{
    hint,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Release},
    },
    thread,
};

/// A point in a task that no thread goes beyond before all have come to it. It is good for one time.
pub(crate) struct Barrier {
    missing: AtomicUsize,
    spins: u32,
}

/// One thread's arrival, which is still to come. Dropped by a panic, it counts as having come, so that
/// the others end.
pub(crate) struct Arrival<'a>(&'a Barrier);

impl Barrier {
    /// One for so many threads. Each looks `spins` times before it lets others run.
    pub(super) fn new(threads: usize, spins: u32) -> Self {
        Self { missing: AtomicUsize::new(threads), spins }
    }

    /// To be called by each thread at the beginning of its task.
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        Arrival(self)
    }
}

impl Arrival<'_> {
    /// Arrives and waits for the others. What they wrote before they came can be read then.
    pub(crate) fn wait(self) {
        let Barrier { missing, spins } = self.0;
        drop(self);
        let mut looks = 0;
        while missing.load(Acquire) > 0 {
            if looks < *spins {
                looks += 1;
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.missing.fetch_sub(1, Release);
    }
}
