//! How a rank waits for others: with a short spin where a core is its own, then asleep, and
//! never without end.

use std::time::{Duration, Instant};

/// How long to spin and to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Whether to spin before sleeping; off when threads exceed cores.
    pub spin: bool,
    /// When to give up on a peer.
    pub timeout: Duration,
}

/// Looks before anyone sleeps; some tens of microseconds.
const SPINS: u32 = 20_000;
/// Looks between two looks at the clock.
const SPINS_PER_YIELD: u32 = 64;

impl Patience {
    /// Looks until `done` or the spin is over; says whether it was done.
    pub(crate) fn spin(&self, mut done: impl FnMut() -> bool) -> bool {
        let spins = if self.spin { SPINS } else { 1 };
        for _ in 0..spins {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Polls `step`, which makes MPI progress, until it gives true: spins first, then sleeps between
    /// polls, ever longer up to `longest_sleep`. False when the time is over.
    pub(crate) fn poll<E>(
        &self,
        longest_sleep: Duration,
        mut step: impl FnMut() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let started = Instant::now();
        let mut sleep = Duration::from_micros(20);
        let spins = if self.spin { SPINS / SPINS_PER_YIELD } else { 1 };
        for _ in 0..spins {
            if step()? {
                return Ok(true);
            }
            if self.spin { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        while started.elapsed() < self.timeout {
            if step()? {
                return Ok(true);
            }
            std::thread::sleep(sleep);
            sleep = (sleep * 5 / 4).min(longest_sleep);
        }
        step()
    }
}
