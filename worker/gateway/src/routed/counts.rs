//! What is counted here.

use std::sync::atomic::{AtomicU64, Ordering};

/// What only grows, and how many requests wait.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) resubmitted: AtomicU64,
    pub(super) instance_deaths: AtomicU64,
    /// Requests that wait for an instance.
    pub(super) waiting: AtomicU64,
    /// Of those, requests that no instance ever had.
    pub(super) waiting_new: AtomicU64,
}

/// A request's place among those that wait.
pub(super) struct Waiting<'a> {
    counts: &'a Counts,
    new: bool,
}

impl Counts {
    /// A place for a request that has started already: there always is one.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.place(false)
    }

    /// A place for a new request, unless `most` of those wait.
    pub(super) fn wait_new(&self, most: u32) -> Option<Waiting<'_>> {
        let one_more = |waiting: u64| (waiting < u64::from(most)).then_some(waiting + 1);
        let order = Ordering::Relaxed;
        self.waiting_new.fetch_update(order, order, one_more).ok()?;
        Some(self.place(true))
    }

    fn place(&self, new: bool) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { counts: self, new }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.new {
            self.counts.waiting_new.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_new_requests_are_turned_away() {
        let counts = Counts::default();
        let waiting = || counts.waiting.load(Ordering::Relaxed);
        let old = counts.wait();
        let new = counts.wait_new(1).unwrap();
        assert!(counts.wait_new(1).is_none());
        assert_eq!(waiting(), 2);
        drop(old);
        assert!(counts.wait_new(1).is_none());
        drop(new);
        assert!(counts.wait_new(1).is_some());
        assert!(counts.wait_new(0).is_none());
        assert_eq!(waiting(), 0);
    }
}
