//! Which sequences run in the next iteration, and what became of them: events in, plan and events
//! out. No clock, no thread, no I/O; times are durations since some start, and come as arguments.
//!
//! ```text
//!                          ┌──────── pause (max_utilization) ───────┐
//!                          ▼                                        │
//! add ──> queue ──admit──> prompt in chunks ──fork──> generating ───┴──> Finished
//!           │                  │                          │
//!           └──────────────────┴── cancel, time is over ──┴──> blocks free in the next plan
//! ```
//!
//! File by file: `queue` orders who waits, `capacity` says who may run, `budget` how many tokens each
//! computes, for which `pace` says how long an iteration gets by that, `layout` writes the plan, `outcome`
//! takes in what came of it; `group` is a request that has started, whose sequences share the blocks
//! of its prompt, and `cache` what sequences do with the KV cache.

mod budget;
mod cache;
mod capacity;
mod group;
mod layout;
mod outcome;
mod pace;
mod queue;

use std::time::Duration;

use shardrun_wire::{
    BeamScore, BlockCounts, FinishReason, KvEvent, Request, RequestId, RequestStage, RequestStats,
};

use crate::beam::BeamChoice;
use crate::kv::KvCacheConfig;
use crate::plan::IterationPlan;
use crate::sampling::SequenceView;
use budget::Share;
use cache::Cache;
use group::{Group, Slot};
use pace::Pace;
use queue::Queue;

pub use budget::ChunkingPolicy;
pub(crate) use cache::most_blocks;
pub use capacity::CapacityPolicy;
pub use outcome::Drawn;
pub use pace::PrefillBudget;

/// What bounds the engine, and how it chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Sequences in one iteration, and in the engine beside those that wait.
    pub max_batch_size: usize,
    /// Tokens in one iteration.
    pub max_num_tokens: usize,
    /// Who may run.
    pub capacity: CapacityPolicy,
    /// Who gets the tokens that prompts may compute.
    pub chunking: ChunkingPolicy,
    /// How many those are in an iteration in which sequences generate.
    pub prefill: PrefillBudget,
    /// Longest wait before a request starts.
    pub queue_timeout: Option<Duration>,
    /// How many tokens back any layer sees; `None` for all.
    pub attention_window: Option<usize>,
    /// The cache, with the least number of blocks over all ranks.
    pub kv_cache: KvCacheConfig,
}

/// Something that happened to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It left the queue.
    Started {
        /// Which request.
        id: RequestId,
    },
    /// A sequence has one more token.
    Token {
        /// Which request.
        id: RequestId,
        /// Which of its sequences.
        sequence: u32,
        /// The token.
        token: u32,
        /// Its log probability, if that was wanted.
        log_prob: f32,
    },
    /// A sequence ended.
    Finished {
        /// Which request.
        id: RequestId,
        /// Which of its sequences.
        sequence: u32,
        /// Why.
        reason: FinishReason,
        /// What a beam search says of it.
        score: Option<BeamScore>,
        /// The request's blocks, if it ended with this sequence.
        ended: Option<BlockCounts>,
    },
}

/// Rows of logits of the last plan, and what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// A sequence's next token is sampled from a row.
    Sample {
        /// Which row.
        row: usize,
        /// Which sequence; for [`Scheduler::view`].
        of: SequenceRef,
    },
    /// The next step of a beam search is made from one row a beam.
    Beam {
        /// The first beam's row; the others follow.
        row: usize,
        /// How many there are.
        beams: usize,
        /// The first beam.
        of: SequenceRef,
        /// Candidates that each row gives.
        candidates: usize,
    },
    /// Logits of the prompt, which the client wanted.
    Context {
        /// The first row.
        row: usize,
        /// How many there are.
        rows: usize,
        /// Position of the first row.
        position: usize,
        /// Which request's.
        id: RequestId,
    },
}

/// A sequence of the last plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRef {
    /// Its request's place among those that run.
    group: usize,
    /// Its number within the request.
    pub sequence: u32,
}

impl SequenceRef {
    /// The beam that comes so many places after this one.
    #[must_use]
    pub fn beam(self, places: usize) -> Self {
        Self { sequence: self.sequence + places as u32, ..self }
    }
}

/// Counts of what is in the scheduler and of the last plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerStats {
    /// Requests that wait to start.
    pub waiting: usize,
    /// Requests that have started.
    pub running: usize,
    /// Of those, requests that lost their blocks to others.
    pub paused: usize,
    /// Sequences that have started and not ended.
    pub sequences: usize,
    /// Requests in the last plan that computed their prompt.
    pub context_requests: usize,
    /// Requests in the last plan that generated.
    pub generation_requests: usize,
    /// Tokens of the last plan beside those that were just generated.
    pub context_tokens: usize,
    /// Tokens of the last plan that had just been generated.
    pub generation_tokens: usize,
    /// Blocks of the cache.
    pub kv_blocks: usize,
    /// Of those, blocks that nobody holds.
    pub free_blocks: usize,
    /// Of those, blocks that requests hold.
    pub used_blocks: usize,
    /// Times that a request lost its blocks to others, since the start.
    pub pauses: u64,
    /// Blocks of all requests since the start.
    pub counts: BlockCounts,
    /// Prompt tokens found in the cache, since the start.
    pub reused_tokens: u64,
}

/// The state of all requests of one engine.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    cache: Cache,
    queue: Queue,
    pace: Pace,
    /// In the order in which they started.
    running: Vec<Group>,
    free_slots: Vec<Slot>,
    /// Sequences of requests that start as soon as others have computed what they begin with.
    following: usize,
    plan: IterationPlan,
    planned: Vec<Planned>,
    draws: Vec<Draw>,
    shares: Vec<Share>,
    choices: Vec<BeamChoice>,
    stats: SchedulerStats,
}

/// A sequence of the plan.
#[derive(Clone, Copy, Debug)]
struct Planned {
    group: usize,
    sequence: usize,
    tokens: usize,
}

impl Scheduler {
    /// An engine without requests.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        let slots = config.max_batch_size;
        Self {
            cache: Cache::new(&config),
            config,
            queue: Queue::default(),
            pace: Pace::new(config.prefill),
            running: Vec::with_capacity(slots),
            free_slots: (0..slots as u32).rev().map(Slot::new).collect(),
            following: 0,
            plan: IterationPlan::default(),
            planned: Vec::with_capacity(slots),
            draws: Vec::with_capacity(slots),
            shares: Vec::with_capacity(slots),
            choices: Vec::new(),
            stats: SchedulerStats::default(),
        }
    }

    /// Queues a request.
    ///
    /// # Panics
    /// If it can't run even when it is alone; clients refuse that.
    pub fn add(&mut self, request: Request, now: Duration) {
        let width = request.search.width() as usize;
        assert!(!request.prompt.is_empty() && request.max_tokens > 0, "checked by the client");
        assert!(width <= self.config.max_batch_size, "checked by the client");
        let blocks = most_blocks(&request, &self.config);
        assert!(blocks <= self.cache.kv.total(), "checked by the client");
        self.queue.add(request, now);
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Ends what has been in the engine for longer than it may.
    pub fn expire(&mut self, now: Duration, events: &mut Vec<Event>) {
        if let Some(limit) = self.config.queue_timeout {
            while let Some(waiting) = self.queue.take_older_than(now.saturating_sub(limit)) {
                group::end_waiting(&waiting, &FinishReason::Expired, events);
            }
        }
        while let Some(waiting) = self.queue.take_due(now) {
            group::end_waiting(&waiting, &FinishReason::TimedOut, events);
        }
        for place in (0..self.running.len()).rev() {
            if self.running[place].deadline.is_some_and(|deadline| deadline <= now) {
                self.end_group(place, &FinishReason::TimedOut, events);
            }
        }
    }

    /// Ends a request for `reason`; its blocks are free for the next plan. Nothing happens if it is
    /// not there.
    pub fn end(&mut self, id: RequestId, reason: &FinishReason, events: &mut Vec<Event>) {
        if let Some(waiting) = self.queue.take(id) {
            group::end_waiting(&waiting, reason, events);
        } else if let Some(place) = self.running.iter().position(|group| group.request.id == id) {
            self.end_group(place, reason, events);
        }
    }

    /// Ends every request for `reason`.
    pub fn end_all(&mut self, reason: &FinishReason, events: &mut Vec<Event>) {
        while let Some(waiting) = self.queue.take_first() {
            group::end_waiting(&waiting, reason, events);
        }
        while let Some(last) = self.running.len().checked_sub(1) {
            self.end_group(last, reason, events);
        }
    }

    fn end_group(&mut self, place: usize, reason: &FinishReason, events: &mut Vec<Event>) {
        let mut group = self.running.remove(place);
        group.end(reason, events);
        group.give_back(&mut self.cache.kv, &mut self.free_slots);
        // The last plan's places are no longer those of the same groups.
        self.planned.clear();
        self.draws.clear();
    }

    /// Plans the next iteration; `None` if there is nothing to do. Sequences that generate come
    /// first, so that no prompt delays them beyond one chunk, whose size follows from what
    /// [`Scheduler::took`] was told.
    pub fn schedule(&mut self, now: Duration, events: &mut Vec<Event>) -> Option<&IterationPlan> {
        self.plan.clear();
        self.planned.clear();
        self.draws.clear();
        self.stats.clear_plan();
        if self.is_idle() {
            return None;
        }
        self.cache.kv.advance(now);
        self.choose(events);
        self.share_out();
        self.lay_out();
        if self.planned.is_empty() {
            return None;
        }
        self.plan.step += 1;
        Some(&self.plan)
    }

    /// The plan of the last [`Scheduler::schedule`].
    #[must_use]
    pub fn plan(&self) -> &IterationPlan {
        &self.plan
    }

    /// Takes in how long the last plan took, from its making to the end of what came of it.
    pub fn took(&mut self, time: Duration) {
        self.pace.took(time);
    }

    /// What the rows of the plan's logits are for, in their order.
    #[must_use]
    pub fn draws(&self) -> &[Draw] {
        &self.draws
    }

    /// What a sequence's next token depends on.
    #[must_use]
    pub fn view(&self, of: SequenceRef) -> SequenceView<'_> {
        let group = &self.running[of.group];
        let tokens = &group.sequences[of.sequence as usize].tokens;
        SequenceView { request: &group.request, tokens, sequence: of.sequence, mask: None }
    }

    /// Numbers of now and of the last plan.
    #[must_use]
    pub fn stats(&self) -> SchedulerStats {
        SchedulerStats {
            waiting: self.queue.len(),
            running: self.running.len(),
            paused: self.running.iter().filter(|group| group.paused).count(),
            sequences: self.running.iter().map(|group| group.live().count()).sum(),
            kv_blocks: self.cache.kv.total(),
            free_blocks: self.cache.kv.free(),
            used_blocks: self.cache.kv.held(),
            counts: self.cache.counts,
            reused_tokens: self.cache.reused_tokens,
            ..self.stats
        }
    }

    /// What can be told of every request, those that wait included.
    #[must_use]
    pub fn request_stats(&self) -> Vec<RequestStats> {
        let step = self.plan.step;
        let mut all: Vec<_> = self.running.iter().map(|group| group.stats(step)).collect();
        all.extend(self.queue.ids().map(|id| RequestStats {
            id,
            stage: RequestStage::Queued,
            context_prefill_position: 0,
            num_generated_tokens: 0,
            avg_num_decoded_tokens_per_iter: 0.0,
            scheduled: false,
            paused: false,
            dis_serving_stats: None,
            alloc_total_blocks_per_request: 0,
            alloc_new_blocks_per_request: 0,
            reused_blocks_per_request: 0,
            missed_blocks_per_request: 0,
            kv_cache_hit_rate_per_request: 0.0,
        }));
        all
    }

    /// Hands on what happened to cached blocks.
    pub fn take_kv_events(&mut self, into: &mut Vec<KvEvent>) {
        self.cache.kv.take_events(into);
    }
}

impl SchedulerStats {
    fn clear_plan(&mut self) {
        self.context_requests = 0;
        self.generation_requests = 0;
        self.context_tokens = 0;
        self.generation_tokens = 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
