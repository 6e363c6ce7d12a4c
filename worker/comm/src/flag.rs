//! A counter in shared memory that one process raises and others wait for.

use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, fence};
use std::time::{Duration, Instant};

use shardrun_shm::{Segment, futex_wait, futex_wake_all};

use crate::wait::Patience;

/// Bytes that a flag takes: a cache line of its own.
pub(crate) const FLAG_BYTES: usize = 64;

/// The longest sleep before the clock is read again.
const NAP: Duration = Duration::from_millis(200);

/// A flag at a place in a segment: the count, and beside it how many sleep on it.
#[derive(Clone, Copy)]
pub(crate) struct Flag<'a> {
    count: &'a AtomicU32,
    sleepers: &'a AtomicU32,
}

impl<'a> Flag<'a> {
    /// The flag at byte `offset` of the payload.
    pub(crate) fn at(segment: &'a Segment, offset: usize) -> Self {
        Self { count: segment.word32(offset), sleepers: segment.word32(offset + 4) }
    }

    /// Raises the count; what was written before is seen by whoever sees the count.
    pub(crate) fn raise(self, count: u32) {
        self.count.store(count, SeqCst);
        // Paired with the fence of a waiter: either it sees the count, or this sees the waiter.
        fence(SeqCst);
        if self.sleepers.load(Relaxed) > 0 {
            futex_wake_all(self.count);
        }
    }

    /// Whether the count has reached `count`; counts wrap around.
    pub(crate) fn reached(self, count: u32) -> bool {
        self.count.load(Acquire).wrapping_sub(count) as i32 >= 0
    }

    /// Waits until the count has reached `count`; false when the time is over.
    pub(crate) fn wait(self, count: u32, patience: &Patience) -> bool {
        if patience.spin(|| self.reached(count)) {
            return true;
        }
        let started = Instant::now();
        self.sleepers.fetch_add(1, SeqCst);
        fence(SeqCst);
        let reached = loop {
            let seen = self.count.load(Acquire);
            if seen.wrapping_sub(count) as i32 >= 0 {
                break true;
            }
            let left = patience.timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                break false;
            }
            futex_wait(self.count, seen, left.min(NAP));
        };
        self.sleepers.fetch_sub(1, SeqCst);
        reached
    }
}
