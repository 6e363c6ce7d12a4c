//! What happens to cached blocks, kept until someone takes it.

use std::collections::VecDeque;

use shardrun_wire::{KvEvent, KvEventData};

/// The last events. When nobody takes them, the oldest are lost, which the ids show.
#[derive(Debug)]
pub(super) struct EventLog {
    kept: VecDeque<KvEvent>,
    capacity: usize,
    next_id: u64,
}

impl EventLog {
    /// A log of at most `capacity` events; with 0 there are none.
    pub(super) fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), capacity, next_id: 0 }
    }

    pub(super) fn is_on(&self) -> bool {
        self.capacity > 0
    }

    /// Adds an event, which is only made if the log is on.
    pub(super) fn push(&mut self, data: impl FnOnce() -> KvEventData) {
        if !self.is_on() {
            return;
        }
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(KvEvent { event_id: self.next_id, data: data() });
        self.next_id += 1;
    }

    /// Moves all events to the end of `into`, oldest first.
    pub(super) fn take(&mut self, into: &mut Vec<KvEvent>) {
        into.extend(self.kept.drain(..));
    }
}
