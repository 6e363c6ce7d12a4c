//! The threads of one rank. The caller is thread 0; the others spin briefly for work, then sleep.
//!
//! Results never depend on which thread computes what.

pub(crate) mod affinity;
mod barrier;
mod signal;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{
    cell::UnsafeCell,
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, JoinHandle},
};

pub(crate) use barrier::Barrier;
use signal::Signal;

use crate::{CpuError, disjoint::Disjoint};

/// Looks at a flag before going to sleep: some hundred microseconds, which bridges the gaps between the
/// operations of one iteration and from one iteration to the next.
const SPINS: u32 = 20_000;

/// Of those, one in so many at a barrier, where a thread that takes longer to come most likely waits
/// for a core: maybe for this one.
const BARRIER_SPINS: u32 = 16;

/// What threads run: called with the thread's number and how many take part.
type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A few threads that run one task at a time together with the caller.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

struct Shared {
    spins: u32,
    /// How many pieces of each thread's share have been taken.
    taken: Box<[Counter]>,
    slots: Box<[Slot]>,
    job: UnsafeCell<Option<Job>>,
    running: AtomicUsize,
    finished: Signal,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `job` is the only part that is not Sync by itself. It is written while no worker runs
// and read only between a slot's `go` and the worker's step down of `running`.
unsafe impl Sync for Shared {}

/// What one worker waits for; on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    go: AtomicBool,
    called: Signal,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const Task<'static>,
    threads: usize,
}

// SAFETY: the task is Sync, and `Pool::run` keeps it alive until no worker uses it.
unsafe impl Send for Job {}

impl Pool {
    /// Starts `threads - 1` workers. With `cores`, pins thread n, the calling thread included, to
    /// `cores[n]`. With `spin` false, threads that wait for work sleep at once, and those that wait at a
    /// barrier let others run at once.
    pub(crate) fn new(
        threads: usize,
        cores: Option<&[usize]>,
        spin: bool,
    ) -> Result<Self, CpuError> {
        if threads == 0 {
            return Err(CpuError::NoThreads);
        }
        if let Some(cores) = cores
            && cores.len() != threads
        {
            return Err(CpuError::CoreCount { threads, cores: cores.len() });
        }
        let shared = Arc::new(Shared {
            spins: if spin { SPINS } else { 0 },
            taken: (0..threads).map(|_| Counter::default()).collect(),
            slots: (1..threads).map(|_| Slot::default()).collect(),
            job: UnsafeCell::new(None),
            running: AtomicUsize::new(0),
            finished: Signal::default(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::with_capacity(threads - 1) };
        for thread in 1..threads {
            pool.start(thread, cores.map(|cores| cores[thread]))?;
        }
        if let Some(cores) = cores {
            let core = cores[0];
            affinity::pin(core).map_err(|source| CpuError::Pin { thread: 0, core, source })?;
        }
        Ok(pool)
    }

    fn start(&mut self, thread: usize, core: Option<usize>) -> Result<(), CpuError> {
        let shared = Arc::clone(&self.shared);
        let (pinned, outcome) = mpsc::channel::<io::Result<()>>();
        let worker = thread::Builder::new()
            .name(format!("shardrun-cpu-{thread}"))
            .spawn(move || {
                let outcome = core.map_or(Ok(()), affinity::pin);
                let runs = outcome.is_ok();
                // The starter waits for this, so it is there to hear it.
                let _ = pinned.send(outcome);
                if runs {
                    work(&shared, thread);
                }
            })
            .map_err(|source| CpuError::Spawn { thread, source })?;
        self.workers.push(worker);
        match (outcome.recv(), core) {
            (Ok(Err(source)), Some(core)) => Err(CpuError::Pin { thread, core, source }),
            _ => Ok(()),
        }
    }

    /// Threads, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// As many threads as have `share` units of work each when there are `work` units, at least one.
    pub(crate) fn threads_for(&self, work: usize, share: usize) -> usize {
        (work / share).clamp(1, self.threads())
    }

    /// Runs `task(thread, threads)` once on each of `threads` threads and waits for all of them.
    ///
    /// # Panics
    /// If `task` does on any thread, once all have ended.
    pub(crate) fn run(&mut self, threads: usize, task: impl Fn(usize, usize) + Sync) {
        assert!((1..=self.threads()).contains(&threads), "as many threads as there are");
        if threads == 1 {
            return task(0, 1);
        }
        let waits = self.shared.call(&task, threads);
        task(0, threads);
        drop(waits);
        if self.shared.panicked.load(SeqCst) {
            panic!("a compute thread panicked; its own message is above");
        }
    }

    /// Runs `task(thread, owner, piece)` for every piece of every owner: threads `0..threads` own `pieces`
    /// each, take their own ones first and then what others haven't come to, since cores are not
    /// always equally fast.
    pub(crate) fn run_pieces(
        &mut self,
        threads: usize,
        pieces: usize,
        task: impl Fn(usize, usize, usize) + Sync,
    ) {
        let shared = Arc::clone(&self.shared);
        let taken = &shared.taken;
        for counter in taken {
            counter.0.store(0, SeqCst);
        }
        self.run(threads, |thread, threads| {
            for after in 0..threads {
                let owner = (thread + after) % threads;
                loop {
                    let piece = taken[owner].0.fetch_add(1, SeqCst);
                    if piece >= pieces {
                        break;
                    }
                    task(thread, owner, piece);
                }
            }
        });
    }

    /// A point within the next task of `threads` threads.
    pub(crate) fn barrier(&self, threads: usize) -> Barrier {
        Barrier::new(threads, self.shared.spins / BARRIER_SPINS)
    }

    /// Cuts `cells` into chunks of `unit` elements and runs `task(chunk number, chunk)` on each of them,
    /// consecutive chunks on one thread.
    pub(crate) fn for_each_chunk<T: Send + Sync>(
        &mut self,
        threads: usize,
        cells: &mut [T],
        unit: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if cells.is_empty() {
            return;
        }
        let chunks = cells.len().div_ceil(unit);
        let len = cells.len();
        let cells = Disjoint::new(cells);
        self.run(threads, |thread, threads| {
            for chunk in share(chunks, thread, threads) {
                let range = chunk * unit..len.min((chunk + 1) * unit);
                // SAFETY: chunks don't overlap, and each is in one thread's share.
                task(chunk, unsafe { cells.part(range) });
            }
        });
    }
}

/// Part `piece` of `pieces` of a range, which differ in length by at most one.
pub(crate) fn part(range: &Range<usize>, piece: usize, pieces: usize) -> Range<usize> {
    let share = share(range.len(), piece, pieces);
    range.start + share.start..range.start + share.end
}

/// The part of `0..items` that is `thread`'s: shares differ by at most one item.
pub(crate) fn share(items: usize, thread: usize, threads: usize) -> Range<usize> {
    items * thread / threads..items * (thread + 1) / threads
}

impl Shared {
    /// Sets workers 1 to `threads - 1` to work on `task`; the result waits for them when dropped.
    fn call<'a>(&'a self, task: &'a Task<'a>, threads: usize) -> Waits<'a> {
        // SAFETY: only the lifetime changes. `Waits` borrows the task and ends after its last use.
        let task = unsafe { std::mem::transmute::<*const Task<'a>, *const Task<'static>>(task) };
        // SAFETY: no worker runs, since each earlier call was waited for.
        unsafe { *self.job.get() = Some(Job { task, threads }) };
        self.panicked.store(false, SeqCst);
        self.running.store(threads - 1, SeqCst);
        for slot in &self.slots[..threads - 1] {
            slot.go.store(true, SeqCst);
            slot.called.notify();
        }
        Waits { shared: self }
    }
}

/// Waits in its drop, so that a caller's panic doesn't take the task away from under the workers.
struct Waits<'a> {
    shared: &'a Shared,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        shared.finished.wait(shared.spins, || shared.running.load(SeqCst) == 0);
    }
}

/// The life of worker `thread`.
fn work(shared: &Shared, thread: usize) {
    let slot = &shared.slots[thread - 1];
    loop {
        slot.called.wait(shared.spins, || slot.go.load(SeqCst));
        slot.go.store(false, SeqCst);
        if shared.stop.load(SeqCst) {
            return;
        }
        // SAFETY: `go` was set after the job was written, and no other is until `running` is 0.
        let job = unsafe { *shared.job.get() };
        if let Some(Job { task, threads }) = job {
            // SAFETY: the caller keeps the task alive until `running` is 0.
            let task = unsafe { &*task };
            if catch_unwind(AssertUnwindSafe(|| task(thread, threads))).is_err() {
                shared.panicked.store(true, SeqCst);
            }
        }
        if shared.running.fetch_sub(1, SeqCst) == 1 {
            shared.finished.notify();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for slot in &self.shared.slots {
            slot.go.store(true, SeqCst);
            slot.called.notify();
        }
        for worker in self.workers.drain(..) {
            // A worker catches its task's panics, so there is nothing to hear.
            let _ = worker.join();
        }
    }
}
