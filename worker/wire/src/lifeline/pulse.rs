//! Who has been silent for too long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When each rank was last heard. The clock is the caller's.
#[derive(Debug)]
pub struct Pulse {
    timeout: Duration,
    heard: BTreeMap<u32, Instant>,
    ticked: Option<Instant>,
}

impl Pulse {
    /// Ranks may be silent for `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, heard: BTreeMap::new(), ticked: None }
    }

    /// A rank was heard.
    pub fn heard(&mut self, rank: u32, now: Instant) {
        self.heard.insert(rank, now);
    }

    /// A rank has ended and is no longer waited for.
    pub fn forget(&mut self, rank: u32) {
        self.heard.remove(&rank);
    }

    /// The ranks that have been silent too long, with how long. To be called several times per
    /// timeout: when this process was itself stopped in between, everyone gets a new term.
    pub fn tick(&mut self, now: Instant) -> Vec<(u32, Duration)> {
        let paused = self.ticked.replace(now).is_some_and(|last| now - last > self.timeout / 2);
        if paused {
            self.heard.values_mut().for_each(|heard| *heard = now);
        }
        let silent = |(&rank, &heard): (&u32, &Instant)| {
            let silence = now.saturating_duration_since(heard);
            (silence > self.timeout).then_some((rank, silence))
        };
        self.heard.iter().filter_map(silent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    #[test]
    fn the_silent_are_found_after_the_timeout() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pulse = Pulse::new(TIMEOUT);
        pulse.heard(0, at(0));
        pulse.heard(1, at(0));
        for second in 0..=4 {
            pulse.heard(0, at(second));
            assert!(pulse.tick(at(second)).is_empty());
        }
        assert_eq!(pulse.tick(at(5)), [(1, Duration::from_secs(5))]);
        pulse.forget(1);
        assert!(pulse.tick(at(6)).is_empty());
    }

    #[test]
    fn a_watcher_that_was_stopped_gives_everyone_a_new_term() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pulse = Pulse::new(TIMEOUT);
        pulse.heard(0, at(0));
        assert!(pulse.tick(at(1)).is_empty());
        assert!(pulse.tick(at(100)).is_empty());
        for second in [102, 104] {
            assert!(pulse.tick(at(second)).is_empty());
        }
        assert_eq!(pulse.tick(at(106)).len(), 1);
    }
}
