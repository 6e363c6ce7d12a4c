//! Which requests run in the next iteration, and what became of them: events in, plan and outputs
//! out. No clock, no thread, no I/O.
//!
//! ```text
//! add ──> waiting ──admit──> running ──complete──> outputs
//!            │                  │
//!            └─────cancel───────┴──> blocks free in the next plan
//! ```

use std::collections::VecDeque;

use shardrun_wire::{FinishReason, Output, Request, RequestId, Sampling};

use crate::blocks::{BlockId, BlockPool};
use crate::plan::{IterationPlan, SequencePlan};

/// What bounds an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Sequences in one iteration, and in the engine beside those that wait.
    pub max_batch_size: usize,
    /// Tokens in one iteration.
    pub max_num_tokens: usize,
    /// Tokens in one KV block.
    pub tokens_per_block: usize,
    /// Blocks of the KV cache, the least over all ranks.
    pub kv_blocks: u32,
}

/// Counts of what is in the scheduler and of the last plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerStats {
    /// Requests that wait to start.
    pub waiting: usize,
    /// Requests that have started.
    pub running: usize,
    /// Requests in the last plan that computed their prompt.
    pub context_requests: usize,
    /// Requests in the last plan that generated.
    pub generation_requests: usize,
    /// Prompt tokens in the last plan.
    pub context_tokens: usize,
    /// Blocks of the cache.
    pub kv_blocks: usize,
    /// Blocks that nobody holds.
    pub free_blocks: usize,
}

/// A row of logits to sample from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleRow {
    /// How.
    pub sampling: Sampling,
    /// Position of the token to be sampled, from the sequence's first.
    pub position: u32,
}

/// The state of all requests of one engine, under the policy `guaranteed_no_evict`: a request starts
/// when the cache has room for all it may become, and then runs to its end.
#[derive(Debug)]
pub struct Scheduler {
    limits: SchedulerLimits,
    pool: BlockPool,
    waiting: VecDeque<Request>,
    /// In order of arrival.
    running: Vec<Sequence>,
    free_slots: Vec<Slot>,
    plan: IterationPlan,
    /// Per sequence of the plan: its place in `running`.
    planned: Vec<usize>,
    sample_rows: Vec<SampleRow>,
    started: Vec<RequestId>,
    stats: SchedulerStats,
}

/// A place in the block tables of all ranks, and how often it was used.
#[derive(Clone, Copy, Debug)]
struct Slot {
    index: u32,
    generation: u32,
}

/// A request that has started.
#[derive(Debug)]
struct Sequence {
    request: Request,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    /// Tokens whose keys and values are in the cache.
    computed: usize,
    slot: Slot,
    blocks: Vec<BlockId>,
    /// Blocks promised to it, beyond those it has.
    unused_blocks: usize,
    finished: bool,
}

impl Sequence {
    fn generated(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }
}

impl Scheduler {
    /// An engine without requests.
    #[must_use]
    pub fn new(limits: SchedulerLimits) -> Self {
        let slot = |index| Slot { index, generation: 0 };
        Self {
            limits,
            pool: BlockPool::new(limits.kv_blocks),
            waiting: VecDeque::new(),
            running: Vec::with_capacity(limits.max_batch_size),
            free_slots: (0..limits.max_batch_size as u32).rev().map(slot).collect(),
            plan: IterationPlan::default(),
            planned: Vec::with_capacity(limits.max_batch_size),
            sample_rows: Vec::with_capacity(limits.max_batch_size),
            started: Vec::new(),
            stats: SchedulerStats::default(),
        }
    }

    /// Queues a request, which must fit the cache when it is alone there.
    ///
    /// # Panics
    /// If it doesn't fit, or has no prompt or nothing to generate; clients refuse that.
    pub fn add(&mut self, request: Request) {
        assert!(!request.prompt.is_empty() && request.max_tokens > 0, "checked by the client");
        assert!(self.blocks_to_completion(&request) <= self.pool.total(), "checked by the client");
        self.waiting.push_back(request);
    }

    /// Ends a request; its blocks are free for the next plan. The last output, if it was known.
    pub fn cancel(&mut self, id: RequestId) -> Option<Output> {
        if let Some(place) = self.waiting.iter().position(|request| request.id == id) {
            self.waiting.remove(place);
            return Some(last_output(id, 0, FinishReason::Cancelled));
        }
        let place = self.running.iter().position(|sequence| sequence.request.id == id)?;
        let index = self.running[place].generated() as u32;
        self.retire(place);
        Some(last_output(id, index, FinishReason::Cancelled))
    }

    /// Ends every request, because of `reason`.
    pub fn fail_all(&mut self, reason: &str, outputs: &mut Vec<Output>) {
        let failed = || FinishReason::Failed(reason.to_owned());
        while let Some(request) = self.waiting.pop_front() {
            outputs.push(last_output(request.id, 0, failed()));
        }
        while let Some(sequence) = self.running.last() {
            outputs.push(last_output(sequence.request.id, sequence.generated() as u32, failed()));
            self.retire(self.running.len() - 1);
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Numbers of now and of the last plan; of no plan if there is nothing to do.
    #[must_use]
    pub fn stats(&self) -> SchedulerStats {
        let planned = if self.is_idle() { SchedulerStats::default() } else { self.stats };
        SchedulerStats {
            waiting: self.waiting.len(),
            running: self.running.len(),
            kv_blocks: self.pool.total(),
            free_blocks: self.pool.free(),
            ..planned
        }
    }

    /// Plans the next iteration; `None` if there is nothing to do. Sequences that generate come
    /// first, so that no prompt delays them beyond one chunk; the tokens left over go
    /// to prompts in order of arrival, cut where they end.
    pub fn schedule(&mut self) -> Option<&IterationPlan> {
        self.admit();
        self.plan.clear();
        self.planned.clear();
        self.sample_rows.clear();
        self.stats = SchedulerStats::default();
        if self.running.is_empty() {
            return None;
        }
        self.plan.step += 1;
        let mut budget = self.limits.max_num_tokens;
        for generating in [true, false] {
            for place in 0..self.running.len() {
                let sequence = &self.running[place];
                if (sequence.computed >= sequence.request.prompt.len()) != generating {
                    continue;
                }
                let tokens = (sequence.tokens.len() - sequence.computed).min(budget);
                if tokens == 0 {
                    break;
                }
                budget -= tokens;
                self.plan_sequence(place, tokens);
            }
        }
        Some(&self.plan)
    }

    /// The plan of the last [`Scheduler::schedule`].
    #[must_use]
    pub fn plan(&self) -> &IterationPlan {
        &self.plan
    }

    /// Requests that the last [`Scheduler::schedule`] started.
    #[must_use]
    pub fn started(&self) -> &[RequestId] {
        &self.started
    }

    /// How the rows of the plan's logits are sampled, in their order.
    #[must_use]
    pub fn sample_rows(&self) -> &[SampleRow] {
        &self.sample_rows
    }

    /// Takes in what the plan brought: one token for each of [`Scheduler::sample_rows`]. Adds an
    /// output for each of them, in their order.
    ///
    /// # Panics
    /// If the tokens are fewer or more than the rows.
    pub fn complete(&mut self, sampled: &[u32], outputs: &mut Vec<Output>) {
        assert_eq!(sampled.len(), self.sample_rows.len(), "one token a sampled row");
        let mut sampled = sampled.iter();
        for (planned, &place) in self.plan.sequences.iter().zip(&self.planned) {
            let sequence = &mut self.running[place];
            sequence.computed += planned.tokens as usize;
            if planned.sample {
                let &token = sampled.next().expect("counted above");
                outputs.push(sequence.take_in(token));
            }
        }
        for place in (0..self.running.len()).rev() {
            if self.running[place].finished {
                self.retire(place);
            }
        }
    }

    fn admit(&mut self) {
        self.started.clear();
        while let Some(request) = self.waiting.front() {
            let blocks = self.blocks_to_completion(request);
            if self.free_slots.is_empty() || !self.pool.reserve(blocks) {
                break;
            }
            let request = self.waiting.pop_front().expect("looked at above");
            let mut slot = self.free_slots.pop().expect("looked at above");
            slot.generation = slot.generation.wrapping_add(1);
            self.started.push(request.id);
            let mut tokens = Vec::with_capacity(request.prompt.len() + request.max_tokens as usize);
            tokens.extend_from_slice(&request.prompt);
            let blocks_held = Vec::with_capacity(blocks);
            self.running.push(Sequence {
                request,
                tokens,
                computed: 0,
                slot,
                blocks: blocks_held,
                unused_blocks: blocks,
                finished: false,
            });
        }
    }

    fn plan_sequence(&mut self, place: usize, tokens: usize) {
        let sequence = &mut self.running[place];
        let end = sequence.computed + tokens;
        let generating = sequence.computed >= sequence.request.prompt.len();
        let first_block = sequence.blocks.len();
        while sequence.blocks.len() * self.limits.tokens_per_block < end {
            let block = self.pool.take();
            sequence.unused_blocks -= 1;
            sequence.blocks.push(block);
            self.plan.blocks.push(block.0);
        }
        let sample = end == sequence.tokens.len();
        self.plan.tokens.extend_from_slice(&sequence.tokens[sequence.computed..end]);
        self.plan.sequences.push(SequencePlan {
            slot: sequence.slot.index,
            generation: sequence.slot.generation,
            position: sequence.computed as u32,
            tokens: tokens as u32,
            blocks: (sequence.blocks.len() - first_block) as u32,
            sample,
        });
        self.planned.push(place);
        if sample {
            let sampling = sequence.request.sampling;
            self.sample_rows.push(SampleRow { sampling, position: end as u32 });
        }
        if generating {
            self.stats.generation_requests += 1;
        } else {
            self.stats.context_requests += 1;
            self.stats.context_tokens += tokens;
        }
    }

    fn retire(&mut self, place: usize) {
        let mut sequence = self.running.remove(place);
        self.pool.release(&mut sequence.blocks, sequence.unused_blocks);
        self.free_slots.push(sequence.slot);
    }

    /// The keys and values of the last token are never read, so they need no block.
    fn blocks_to_completion(&self, request: &Request) -> usize {
        let tokens = request.prompt.len() + request.max_tokens as usize - 1;
        tokens.div_ceil(self.limits.tokens_per_block)
    }
}

impl Sequence {
    /// Appends a sampled token, unless it is the end token.
    fn take_in(&mut self, token: u32) -> Output {
        let index = self.generated() as u32;
        let mut output = Output { id: self.request.id, index, tokens: Vec::new(), finish: None };
        if self.request.end_id == Some(token) {
            output.finish = Some(FinishReason::EndId);
        } else {
            self.tokens.push(token);
            output.tokens.push(token);
            if self.generated() == self.request.max_tokens as usize {
                output.finish = Some(FinishReason::Length);
            }
        }
        self.finished = output.finish.is_some();
        output
    }
}

fn last_output(id: RequestId, index: u32, finish: FinishReason) -> Output {
    Output { id, index, tokens: Vec::new(), finish: Some(finish) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
