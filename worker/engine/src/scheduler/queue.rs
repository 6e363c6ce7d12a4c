//! Who waits: by priority, and in order of arrival within one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use shardrun_wire::{Request, RequestId};

/// A request that has not started.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) arrived: Duration,
}

impl Waiting {
    /// When its time is over.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.request.timeout.map(|timeout| self.arrived.saturating_add(timeout))
    }
}

/// A place in the queue; the lowest is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The bits of a priority, which sort as it does, since it isn't negative.
    priority: Reverse<u32>,
    arrival: u64,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeMap<Place, Waiting>,
    places: HashMap<RequestId, Place>,
    /// By age: arrivals ascend with time.
    ages: BTreeMap<u64, Place>,
    /// Those whose time can be over.
    deadlines: BTreeSet<(Duration, Place)>,
    arrivals: u64,
}

impl Queue {
    pub(super) fn add(&mut self, request: Request, now: Duration) {
        let priority = Reverse(request.priority.max(0.0).to_bits());
        let place = Place { priority, arrival: self.arrivals };
        self.arrivals += 1;
        self.places.insert(request.id, place);
        self.ages.insert(place.arrival, place);
        let waiting = Waiting { request, arrived: now };
        if let Some(deadline) = waiting.deadline() {
            self.deadlines.insert((deadline, place));
        }
        self.order.insert(place, waiting);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.order.values().map(|waiting| waiting.request.id)
    }

    /// The first, or the one after a place.
    pub(super) fn after(&self, place: Option<Place>) -> Option<(Place, &Waiting)> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).next().map(|(&place, waiting)| (place, waiting))
    }

    pub(super) fn take_at(&mut self, place: Place) -> Option<Waiting> {
        let waiting = self.order.remove(&place)?;
        self.places.remove(&waiting.request.id);
        self.ages.remove(&place.arrival);
        if let Some(deadline) = waiting.deadline() {
            self.deadlines.remove(&(deadline, place));
        }
        Some(waiting)
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Waiting> {
        self.take_at(*self.places.get(&id)?)
    }

    pub(super) fn take_first(&mut self) -> Option<Waiting> {
        self.take_at(*self.order.first_key_value()?.0)
    }

    /// One that arrived before `time`.
    pub(super) fn take_older_than(&mut self, time: Duration) -> Option<Waiting> {
        let (_, &oldest) = self.ages.first_key_value()?;
        let arrived = self.order.get(&oldest)?.arrived;
        if arrived < time { self.take_at(oldest) } else { None }
    }

    /// One whose time is over.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Waiting> {
        let &(deadline, place) = self.deadlines.first()?;
        if deadline <= now { self.take_at(place) } else { None }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(id: u64, priority: f32, timeout_s: Option<u64>) -> Request {
        let mut request = Request::new(RequestId(id), vec![1], 1);
        request.priority = priority;
        request.timeout = timeout_s.map(Duration::from_secs);
        request
    }

    fn order(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.take_first()).map(|waiting| waiting.request.id.0).collect()
    }

    #[test]
    fn higher_priorities_come_first_and_arrival_decides_within_one() {
        let mut queue = Queue::default();
        for (id, priority) in [(1, 0.5), (2, 0.9), (3, 0.5), (4, 0.0), (5, 0.9)] {
            queue.add(request(id, priority, None), Duration::ZERO);
        }
        assert_eq!(queue.take(RequestId(3)).unwrap().request.id, RequestId(3));
        assert!(queue.take(RequestId(3)).is_none());
        let (first, waiting) = queue.after(None).unwrap();
        assert_eq!(waiting.request.id, RequestId(2));
        assert_eq!(queue.after(Some(first)).unwrap().1.request.id, RequestId(5));
        assert_eq!(order(&mut queue), [2, 5, 1, 4]);
        assert!(queue.is_empty() && queue.take_due(Duration::MAX).is_none());
    }

    #[test]
    fn the_old_and_the_due_are_found_whatever_their_priority() {
        let mut queue = Queue::default();
        let second = Duration::from_secs(1);
        queue.add(request(1, 0.9, Some(5)), second);
        queue.add(request(2, 0.1, Some(2)), 2 * second);
        queue.add(request(3, 0.5, None), 3 * second);
        assert!(queue.take_older_than(second).is_none());
        assert_eq!(queue.take_due(4 * second).unwrap().request.id, RequestId(2));
        assert!(queue.take_due(5 * second).is_none());
        assert_eq!(queue.take_older_than(2 * second).unwrap().request.id, RequestId(1));
        assert_eq!(order(&mut queue), [3]);
        assert!(queue.take_older_than(Duration::MAX).is_none());
    }
}
