//! Who may run in the next iteration, and who starts.

use shardrun_wire::Request;

use super::cache::Cache;
use super::group::{Group, Slot, ended};
use super::queue::Waiting;
use super::{Event, Scheduler};

/// What is asked for before a request may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacityPolicy {
    /// Room in the cache for all that it may become: nothing is ever paused.
    GuaranteedNoEvict,
    /// Room for its next step. If a step finds no room, the request that started last is paused: it
    /// loses its blocks, and later goes on with the tokens it has.
    MaxUtilization,
    /// As the first, and that nothing runs: a batch starts together, and the next one after its last.
    StaticBatch,
}

impl CapacityPolicy {
    /// Whether a request has all blocks that it may need reserved when it starts.
    fn reserves(self) -> bool {
        self != Self::MaxUtilization
    }
}

/// Whether a request that waits may start.
enum Fit {
    Now,
    /// Not in this iteration; those behind it may.
    Later,
    /// Not before something ends; nor may those behind it, so that large requests aren't passed
    /// over for ever.
    No,
}

impl Scheduler {
    /// Pauses and starts requests, so that all that then runs has room for its next step.
    pub(super) fn choose(&mut self, events: &mut Vec<Event>) {
        self.following = 0;
        let room = match self.config.capacity {
            CapacityPolicy::GuaranteedNoEvict => 0,
            CapacityPolicy::StaticBatch if !self.running.is_empty() => return,
            CapacityPolicy::StaticBatch => 0,
            CapacityPolicy::MaxUtilization => match self.make_room() {
                Some(room) => room,
                None => return,
            },
        };
        if self.queue.is_empty() || self.free_slots.is_empty() {
            return;
        }
        self.cache.expect_nothing();
        self.running.iter().for_each(|group| self.cache.expect_from(group));
        self.admit(room, events);
    }

    /// Starts as many of those that wait as fit. Without reservations, `room` is the number of blocks that
    /// the steps of those that run leave over.
    fn admit(&mut self, mut room: usize, events: &mut Vec<Event>) {
        let mut after = None;
        while let Some((place, waiting)) = self.queue.after(after) {
            let request = &waiting.request;
            let sequences = request.search.width() as usize - ended(request);
            let fit = match sequences > self.free_slots.len() {
                true => Fit::No,
                false => self.cache.fit(request, self.config.capacity, &mut room),
            };
            match fit {
                Fit::Later => {
                    after = Some(place);
                    self.following += sequences;
                }
                Fit::No => break,
                Fit::Now => {
                    let waiting = self.queue.take_at(place).expect("looked at above");
                    events.push(Event::Started { id: waiting.request.id });
                    self.start(waiting);
                }
            }
        }
        self.following = self.following.min(self.free_slots.len());
    }

    /// Starts a request whose prefix was found.
    fn start(&mut self, waiting: Waiting) {
        let slots = &mut self.free_slots;
        let block = self.config.kv_cache.tokens_per_block;
        let mut group = Group::new(waiting, block, || {
            let Slot { index, generation } = slots.pop().expect("counted before");
            Slot { index, generation: generation.wrapping_add(1) }
        });
        if self.config.capacity.reserves() {
            let most = self.cache.most_blocks(&group.request);
            group.reserves = true;
            group.promised = self.cache.beside_found(most);
        }
        self.cache.adopt(&mut group);
        let reserved = self.cache.kv.reserve(group.promised);
        assert!(reserved, "there was room for {} blocks", group.promised);
        self.cache.expect_from(&group);
        self.running.push(group);
    }

    /// With `max_utilization`: room for the next step of as many as possible, those that started
    /// first before the others. Gives the blocks left over for those that wait, or `None` if
    /// they may not start.
    fn make_room(&mut self) -> Option<usize> {
        let mut room = self.cache.kv.free();
        let mut end = self.running.len();
        let mut all_run = true;
        let mut place = 0;
        while place < end {
            if self.running[place].paused {
                all_run &= self.wake(place, &mut room);
                place += 1;
                continue;
            }
            let need = self.cache.blocks_for_step(&self.running[place]);
            if need <= room {
                room -= need;
                place += 1;
                continue;
            }
            // The one that started last; if that is this one, it waits as well.
            let last = (place..end).rev().find(|&at| !self.running[at].paused);
            end = last.expect("this one runs");
            let before = self.cache.kv.free();
            self.pause(end);
            room += self.cache.kv.free() - before;
            all_run = false;
        }
        all_run.then_some(room)
    }

    /// Takes a request's blocks.
    fn pause(&mut self, place: usize) {
        let group = &mut self.running[place];
        for sequence in &mut group.sequences {
            sequence.release(&mut self.cache.kv);
        }
        group.paused = true;
        self.stats.pauses += 1;
    }

    /// Lets a paused request go on if there is room for all that it has and a step more.
    fn wake(&mut self, place: usize, room: &mut usize) -> bool {
        let group = &mut self.running[place];
        let most = group.request.prompt.len() + group.request.max_tokens as usize - 1;
        let lengths = group.live().map(|at| (group.sequences[at].tokens.len() + 1).min(most));
        let needed = self.cache.blocks_for(group.request.prompt.len(), lengths);
        // Several sequences begin anew where they part, which must not be out of a window by then.
        let tokens = match group.live().count() {
            1 => &group.sequences[group.trunk()].tokens,
            _ => &group.request.prompt,
        };
        self.cache.find(&group.request, tokens);
        if !self.cache.claim(needed, room) {
            return false;
        }
        group.paused = false;
        self.cache.adopt(group);
        true
    }
}

impl Cache {
    /// Whether `request` may start; looks for its prefix.
    fn fit(&mut self, request: &Request, policy: CapacityPolicy, room: &mut usize) -> Fit {
        self.find(request, &request.prompt);
        if self.will_find_more(request) {
            return Fit::Later;
        }
        let fits = if policy.reserves() {
            let mut available = self.kv.available();
            self.claim(self.most_blocks(request), &mut available)
        } else {
            let first = self.blocks_for_first_step(request);
            self.claim(first, room)
        };
        if fits { Fit::Now } else { Fit::No }
    }
}
