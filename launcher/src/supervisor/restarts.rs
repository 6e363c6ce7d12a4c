//! How often a lost instance is started again, and when.

use std::time::{Duration, Instant};

/// Serving for so long ends a row of restarts.
const STEADY: Duration = Duration::from_secs(60);

/// When and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    /// Restarts in a row.
    pub(crate) most: u32,
    /// Wait before the first.
    pub(crate) backoff: Duration,
    /// Longest wait.
    pub(crate) backoff_max: Duration,
}

/// The restarts of one instance.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    in_a_row: u32,
    serving_since: Option<Instant>,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, in_a_row: 0, serving_since: None }
    }

    /// The instance serves.
    pub(crate) fn serving(&mut self, now: Instant) {
        self.serving_since = Some(now);
    }

    /// The instance was lost. When to start it again; `None` if that has been tried often enough.
    pub(crate) fn lost(&mut self, now: Instant) -> Option<Instant> {
        if self.serving_since.take().is_some_and(|since| now - since >= STEADY) {
            self.in_a_row = 0;
        }
        if self.in_a_row >= self.policy.most {
            return None;
        }
        let doubled = 1u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX);
        self.in_a_row += 1;
        let wait = self.policy.backoff.checked_mul(doubled).unwrap_or(self.policy.backoff_max);
        Some(now + wait.min(self.policy.backoff_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let policy = RestartPolicy { most: 5, backoff: MS(200), backoff_max: MS(1000) };
        let (mut restarts, now) = (Restarts::new(policy), Instant::now());
        let waits: Vec<_> = (0..6).map(|_| restarts.lost(now).map(|at| at - now)).collect();
        let expected = [200, 400, 800, 1000, 1000].map(|ms| Some(MS(ms)));
        assert_eq!(waits[..5], expected);
        assert_eq!(waits[5], None);
    }

    #[test]
    fn serving_for_a_while_begins_a_new_row() {
        let policy = RestartPolicy { most: 1, backoff: MS(0), backoff_max: MS(0) };
        let (mut restarts, start) = (Restarts::new(policy), Instant::now());
        assert!(restarts.lost(start).is_some());
        restarts.serving(start);
        assert!(restarts.lost(start + MS(59_000)).is_none());
        restarts.serving(start);
        assert!(restarts.lost(start + MS(60_000)).is_some());
    }

    #[test]
    fn long_rows_do_not_overflow() {
        let policy = RestartPolicy { most: u32::MAX, backoff: MS(1), backoff_max: MS(50) };
        let (mut restarts, now) = (Restarts::new(policy), Instant::now());
        for _ in 0..100 {
            assert!(restarts.lost(now).is_some_and(|at| at <= now + MS(50)));
        }
    }
}
