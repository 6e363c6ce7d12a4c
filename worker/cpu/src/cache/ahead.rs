//! Memory that the system gives before a token comes for it.
//!
//! The first touch of a huge page takes the system up to milliseconds, in which everybody in the batch would
//! wait. So a thread touches what comes after the blocks that are in use; low ones are used first. What it has
//! not come to is touched by the tokens, as ever.
//!
//! It has the same right to a CPU as any other thread: meanwhile it holds a lock of the system's without which
//! none of the process can change what is mapped, so that it must not wait for those that compute.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::memory::Backing;

/// Bytes from the last block in use to what is asked for.
const AHEAD_BYTES: usize = 64 << 20;

/// Bytes that are asked for at once.
const STEP_BYTES: usize = 2 << 20;

/// Has the system give memory, from the first byte on.
pub(super) struct Ahead {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    bytes: usize,
    /// Up to where the thread was told to go.
    told: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Up to where memory is wanted.
    wanted: usize,
    ended: bool,
}

impl Ahead {
    /// Begins with the first bytes of `backing`, while nothing is in use.
    pub(super) fn new(backing: Backing) -> Self {
        let state = Mutex::new(State { wanted: 0, ended: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let bytes = backing.bytes();
        let of_thread = Arc::clone(&shared);
        // Without the thread, as without the system's help, tokens wait for their memory.
        let thread = thread::Builder::new()
            .name("shardrun-ahead".to_owned())
            .spawn(move || run(&of_thread, &backing))
            .ok();
        let mut ahead = Self { shared, thread, bytes, told: 0 };
        ahead.used(0);
        ahead
    }

    /// To be called when so many of the first bytes are in use.
    pub(super) fn used(&mut self, bytes: usize) {
        let wanted = bytes.saturating_add(AHEAD_BYTES).min(self.bytes);
        if wanted > self.told {
            // In steps, so that the thread is not told with every block.
            self.told = wanted.next_multiple_of(STEP_BYTES).min(self.bytes);
            self.shared.lock().wanted = self.told;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes as far as it is told, until it is to end or the system refuses.
fn run(shared: &Shared, backing: &Backing) {
    let mut done = 0;
    loop {
        let state = shared.lock();
        let idle = |state: &mut State| state.wanted <= done && !state.ended;
        let state = shared.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return;
        }
        let end = state.wanted.min(done + STEP_BYTES);
        drop(state);
        if backing.populate(done..end).is_err() {
            return;
        }
        done = end;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{memory::Memory, pool::affinity};

    #[test]
    fn what_follows_the_used_bytes_is_there_before_it_is_written() -> Result<(), crate::CpuError> {
        let memory = Memory::zeroed("a test", 3 * AHEAD_BYTES)?;
        // Pages between that were touched: huge ones reach a little farther than they were asked for.
        let there = |bytes: std::ops::Range<usize>| memory.backing().resident(bytes);
        let reaches = |end: usize| {
            let began = Instant::now();
            // Others may have the CPUs meanwhile.
            while there(0..end) < end && began.elapsed() < Duration::from_secs(100) {
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(there(0..end), end);
            assert_eq!(there(end + STEP_BYTES..3 * AHEAD_BYTES), 0);
        };
        assert_eq!(there(0..3 * AHEAD_BYTES), 0);
        let mut ahead = Ahead::new(memory.backing());
        reaches(AHEAD_BYTES);
        ahead.used(10);
        reaches(AHEAD_BYTES + STEP_BYTES);
        ahead.used(3 * STEP_BYTES);
        reaches(AHEAD_BYTES + 3 * STEP_BYTES);
        ahead.used(usize::MAX);
        reaches(3 * AHEAD_BYTES);
        Ok(())
    }

    #[test]
    fn others_can_map_memory_while_its_cpu_is_computed_on() -> Result<(), crate::CpuError> {
        const BYTES: usize = 512 << 20;
        let memory = Memory::zeroed("a test", BYTES)?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (memory, done) = (&memory, &done);
            scope.spawn(move || {
                // SAFETY: it only asks. Threads that this one starts are bound with it.
                let cpu = unsafe { libc::sched_getcpu() };
                let bound = affinity::pin(usize::try_from(cpu).unwrap_or_default());
                assert!(bound.is_ok(), "{bound:?}");
                let mut ahead = Ahead::new(memory.backing());
                ahead.used(BYTES);
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let began = Instant::now();
            let mut longest = Duration::ZERO;
            while memory.backing().resident(0..BYTES) < BYTES
                && began.elapsed() < Duration::from_secs(5)
            {
                let before = Instant::now();
                drop(Memory::zeroed("another", 4096));
                longest = longest.max(before.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            done.store(true, Ordering::Relaxed);
            // Turns on a CPU are milliseconds; who never gets one is here only when the other is done.
            assert!(longest < Duration::from_secs(1), "it took {longest:?}");
        });
        Ok(())
    }
}
