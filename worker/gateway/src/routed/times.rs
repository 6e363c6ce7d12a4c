//! When things happened to a request, whichever instance it was in.

use std::time::Duration;

use shardrun_wire::RequestAccount;
use tokio::time::Instant;

/// Moments of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    submitted: Instant,
    /// Its time is over.
    deadline: Option<Instant>,
    /// It came to the instance where it is.
    placed: Instant,
    /// Its first token came, from an instance before that.
    first_token: Option<Instant>,
}

impl Times {
    /// From now on.
    pub(super) fn begin(timeout: Option<Duration>) -> Self {
        let submitted = Instant::now();
        // What is too far away to be a moment is never.
        let deadline = timeout.and_then(|timeout| submitted.checked_add(timeout));
        Self { submitted, deadline, placed: submitted, first_token: None }
    }

    /// Since its submission.
    pub(super) fn age(&self) -> Duration {
        self.submitted.elapsed()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When it has waited for so long.
    pub(super) fn after(&self, wait: Duration) -> Option<Instant> {
        self.submitted.checked_add(wait)
    }

    /// What is left of its time; `None` if there is no end to it.
    pub(super) fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn placed(&mut self) {
        self.placed = Instant::now();
    }

    pub(super) fn token_came(&mut self) {
        self.first_token.get_or_insert_with(Instant::now);
    }

    /// The last instance's account, with what happened before it.
    pub(super) fn whole(&self, last: RequestAccount) -> RequestAccount {
        let nanoseconds = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
        };
        let before = nanoseconds(self.submitted, self.placed);
        let arrival_ns = last.arrival_ns.saturating_sub(before);
        let whole = RequestAccount { arrival_ns, ..last };
        match self.first_token.filter(|&first| first < self.placed) {
            None => whole,
            Some(first) => {
                let first_ns = arrival_ns.saturating_add(nanoseconds(self.submitted, first));
                RequestAccount {
                    // No later, and nobody is left who knows.
                    first_scheduled_ns: first_ns,
                    first_token_ns: first_ns,
                    last_token_ns: last.last_token_ns.max(first_ns),
                    ..whole
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_account_reaches_back_to_the_first_submission() {
        let mut times = Times::begin(Some(Duration::from_secs(9)));
        let last = RequestAccount {
            arrival_ns: 50_000_000_000,
            first_scheduled_ns: 51_000_000_000,
            first_token_ns: 52_000_000_000,
            last_token_ns: 53_000_000_000,
            ..RequestAccount::default()
        };
        assert_eq!(times.whole(last), last);
        tokio::time::advance(Duration::from_secs(2)).await;
        times.token_came();
        tokio::time::advance(Duration::from_secs(3)).await;
        times.token_came();
        times.placed();
        assert_eq!(times.left(), Some(Duration::from_secs(4)));
        let expected = RequestAccount {
            arrival_ns: 45_000_000_000,
            first_scheduled_ns: 47_000_000_000,
            first_token_ns: 47_000_000_000,
            ..last
        };
        assert_eq!(times.whole(last), expected);
    }
}
