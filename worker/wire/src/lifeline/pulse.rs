//! Who has been silent for too long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::RankId;

/// When each rank was last heard, of all instances. The clock is the caller's.
#[derive(Debug)]
pub struct Pulse {
    timeout: Duration,
    ranks: BTreeMap<RankId, Heard>,
    ticked: Option<Instant>,
}

#[derive(Debug)]
struct Heard {
    host: String,
    at: Instant,
}

/// A rank that has been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Which.
    pub id: RankId,
    /// Its host.
    pub host: String,
    /// When it was last heard.
    pub since: Instant,
    /// What the host's other ranks did meanwhile.
    pub others_on_host: OthersOnHost,
}

/// What is known of the other ranks on a silent rank's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OthersOnHost {
    /// One was heard while the rank was silent: the host and the network live, the rank is frozen.
    Heard,
    /// None was heard: the host or the network is gone, or all of its ranks are frozen.
    Silent,
    /// There are none.
    None,
}

impl Pulse {
    /// Ranks may be silent for `timeout`, which should be two heartbeats or more.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, ranks: BTreeMap::new(), ticked: None }
    }

    /// A rank has said hello from `host`.
    pub fn begin(&mut self, id: RankId, host: &str, now: Instant) {
        self.ranks.insert(id, Heard { host: host.to_owned(), at: now });
    }

    /// A rank was heard; one that never began, or is forgotten, doesn't count.
    pub fn heard(&mut self, id: &RankId, now: Instant) {
        if let Some(heard) = self.ranks.get_mut(id) {
            heard.at = now;
        }
    }

    /// A rank has ended and is no longer waited for.
    pub fn forget(&mut self, id: &RankId) {
        self.ranks.remove(id);
    }

    /// The ranks that have been silent too long. To be called several times per timeout: when this
    /// process was itself stopped in between, everyone gets a new term.
    pub fn tick(&mut self, now: Instant) -> Vec<Silence> {
        let paused = self.ticked.replace(now).is_some_and(|last| now - last > self.timeout / 2);
        if paused {
            self.ranks.values_mut().for_each(|heard| heard.at = now);
        }
        let is_silent = |heard: &Heard| now.saturating_duration_since(heard.at) > self.timeout;
        let silent = self.ranks.iter().filter(|(_, heard)| is_silent(heard));
        silent.map(|(&id, heard)| self.silence(id, heard)).collect()
    }

    fn silence(&self, id: RankId, rank: &Heard) -> Silence {
        // Those who fall silent together were last heard within a heartbeat of each other; one that
        // lives was heard within the last one. Half the timeout is between the two.
        let meanwhile = rank.at + self.timeout / 2;
        let others =
            self.ranks.iter().filter(|(other, heard)| **other != id && heard.host == rank.host);
        let others_on_host = others.map(|(_, heard)| heard.at > meanwhile).max().map_or(
            OthersOnHost::None,
            |any_heard| {
                if any_heard { OthersOnHost::Heard } else { OthersOnHost::Silent }
            },
        );
        Silence { id, host: rank.host.clone(), since: rank.at, others_on_host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    fn id(instance: u32, rank: u32) -> RankId {
        RankId { instance, attempt: 0, rank }
    }

    #[test]
    fn the_silent_are_found_after_the_timeout() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pulse = Pulse::new(TIMEOUT);
        pulse.begin(id(0, 0), "a", at(0));
        pulse.begin(id(0, 1), "b", at(0));
        for second in 0..=4 {
            pulse.heard(&id(0, 0), at(second));
            assert!(pulse.tick(at(second)).is_empty());
        }
        let silence = Silence {
            id: id(0, 1),
            host: "b".into(),
            since: at(0),
            others_on_host: OthersOnHost::None,
        };
        assert_eq!(pulse.tick(at(5)), [silence]);
        pulse.forget(&id(0, 1));
        pulse.heard(&id(0, 1), at(5));
        assert!(pulse.tick(at(6)).is_empty());
    }

    #[test]
    fn a_watcher_that_was_stopped_gives_everyone_a_new_term() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pulse = Pulse::new(TIMEOUT);
        pulse.begin(id(0, 0), "a", at(0));
        assert!(pulse.tick(at(1)).is_empty());
        assert!(pulse.tick(at(100)).is_empty());
        for second in [102, 104] {
            assert!(pulse.tick(at(second)).is_empty());
        }
        assert_eq!(pulse.tick(at(106)).len(), 1);
    }

    /// The ranks that are silent when, of those that beat every half second each from `first` on, the
    /// ones in `stop` did so until 10 s; each with what it says of the others.
    fn silent(stop: &[RankId]) -> Vec<(RankId, OthersOnHost)> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(TIMEOUT);
        let hosts = [(id(0, 0), "a"), (id(0, 1), "a"), (id(1, 0), "a"), (id(1, 1), "b")];
        for (id, host) in hosts {
            pulse.begin(id, host, at(0));
        }
        for ms in (0..).step_by(10) {
            for ((id, _), phase) in hosts.into_iter().zip([0, 130, 260, 390]) {
                if ms % 500 == phase && (ms < 10_000 || !stop.contains(&id)) {
                    pulse.heard(&id, at(ms));
                }
            }
            let silent = pulse.tick(at(ms));
            if silent.len() == stop.len() {
                assert!(silent.iter().all(|silence| at(ms) - silence.since > TIMEOUT));
                return silent.into_iter().map(|one| (one.id, one.others_on_host)).collect();
            }
            assert!(ms < 20_000, "{silent:?}");
        }
        Vec::new()
    }

    #[test]
    fn a_frozen_rank_and_a_host_that_is_gone_are_told_apart() {
        use OthersOnHost::{Heard, None, Silent};
        let (a0, a1, a2, b) = (id(0, 0), id(0, 1), id(1, 0), id(1, 1));
        assert_eq!(silent(&[a0]), [(a0, Heard)]);
        assert_eq!(silent(&[a0, a1]), [(a0, Heard), (a1, Heard)]);
        assert_eq!(silent(&[a0, a1, a2]), [(a0, Silent), (a1, Silent), (a2, Silent)]);
        assert_eq!(silent(&[b]), [(b, None)]);
        assert_eq!(silent(&[a0, b]), [(a0, Heard), (b, None)]);
    }

    #[test]
    fn the_first_to_be_missed_of_a_host_that_is_gone_is_not_called_frozen() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(TIMEOUT);
        pulse.begin(id(0, 0), "a", at(0));
        pulse.begin(id(0, 1), "a", at(0));
        pulse.heard(&id(0, 0), at(1000));
        pulse.heard(&id(0, 1), at(1490));
        for ms in (1500..5000).step_by(500) {
            assert!(pulse.tick(at(ms)).is_empty());
        }
        let missed = pulse.tick(at(5010));
        assert_eq!((missed.len(), missed[0].others_on_host), (1, OthersOnHost::Silent));
    }
}
