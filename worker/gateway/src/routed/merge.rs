//! What several instances say, as one: pure.

use std::collections::HashMap;

use shardrun_wire::{IterationStats, KvEvent};

/// Iterations of all instances, oldest first.
pub(super) fn iterations(each: Vec<Vec<IterationStats>>) -> Vec<IterationStats> {
    let mut all: Vec<IterationStats> = each.into_iter().flatten().collect();
    // `MM-DD-YYYY HH:...`: the year first.
    all.sort_by_cached_key(|stats| {
        let (day, time) = stats.timestamp.split_at_checked(10).unwrap_or_default();
        let (day, year) = day.split_at_checked(6).unwrap_or_default();
        [year, day, time].concat()
    });
    all
}

/// Numbers the events of all instances as one row, in which a gap still means that some were lost.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    next: u64,
    /// By attachment, the number that its next event has if none is lost.
    expected: HashMap<u64, u64>,
}

impl Numbering {
    /// The events of one attachment.
    pub(super) fn number(&mut self, attachment: u64, events: &mut [KvEvent]) {
        let expected = self.expected.entry(attachment).or_default();
        for event in events {
            self.next += event.event_id.saturating_sub(*expected);
            *expected = event.event_id.saturating_add(1);
            event.event_id = self.next;
            self.next += 1;
        }
    }

    pub(super) fn forget(&mut self, attachment: u64) {
        self.expected.remove(&attachment);
    }
}

#[cfg(test)]
mod tests {
    use shardrun_wire::KvEventData;

    use super::*;

    #[test]
    fn iterations_are_in_the_order_of_time() {
        let at = |timestamp: &str| IterationStats {
            timestamp: timestamp.to_owned(),
            ..IterationStats::default()
        };
        let (one, two, three) = (
            "12-31-2024 23:59:59.000001",
            "01-01-2025 00:00:00.000000",
            "01-01-2025 00:00:00.000001",
        );
        let all = iterations(vec![vec![at(one), at(three)], vec![at(two)]]);
        assert_eq!(all, [at(one), at(two), at(three)]);
        assert_eq!(iterations(vec![vec![at("")], vec![at("x")]]).len(), 2);
    }

    #[test]
    fn lost_events_leave_a_gap() {
        let mut numbering = Numbering::default();
        let mut number = |attachment, ids: &[u64]| -> Vec<u64> {
            let data = KvEventData::Removed { block_hashes: Vec::new() };
            let event = |&event_id| KvEvent { event_id, data: data.clone() };
            let mut events: Vec<KvEvent> = ids.iter().map(event).collect();
            numbering.number(attachment, &mut events);
            events.iter().map(|event| event.event_id).collect()
        };
        assert_eq!(number(1, &[0, 1, 2]), [0, 1, 2]);
        assert_eq!(number(2, &[0, 1]), [3, 4]);
        assert_eq!(number(1, &[3, 6]), [5, 8], "two of the first were lost");
        assert_eq!(number(2, &[2]), [9]);
        numbering.forget(1);
        assert!(!numbering.expected.contains_key(&1));
    }
}
