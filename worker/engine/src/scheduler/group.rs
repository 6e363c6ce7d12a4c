//! A request that has started, and its sequences.

use std::time::Duration;

use shardrun_wire::{
    BeamScore, BlockCounts, FinishReason, Request, RequestStage, RequestStats, RetentionPriority,
    Search,
};

use super::Event;
use super::cache::root;
use super::queue::Waiting;
use crate::beam::Beams;
use crate::kv::{BlockId, BlockRetention, KvCache, Node, Root};

/// A place in the block tables of all ranks, and which of its users this is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Slot {
    pub(super) fn new(index: u32) -> Self {
        Self { index, generation: 0 }
    }
}

/// A request that has started.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) request: Request,
    pub(super) root: Root,
    /// Of a beam search, as many as there are beams; the first ones live.
    pub(super) sequences: Vec<Sequence>,
    pub(super) beams: Option<Beams>,
    /// Whether blocks are reserved for it.
    pub(super) reserves: bool,
    /// Those that are and that it hasn't taken.
    pub(super) promised: usize,
    /// Sequences whose end is still to be told.
    open: usize,
    /// Whether it lost its blocks to others.
    pub(super) paused: bool,
    pub(super) deadline: Option<Duration>,
    /// Prompt positions whose logits the client has.
    pub(super) context_rows: usize,
    /// The last plan that it was in.
    pub(super) planned_in: u64,
    /// Iterations that brought it tokens.
    pub(super) decoded_in: u64,
    pub(super) counts: BlockCounts,
}

/// One of a request's sequences.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// Prompt and generated tokens.
    pub(super) tokens: Vec<u32>,
    /// Tokens whose keys and values are in the cache.
    pub(super) computed: usize,
    pub(super) slot: Option<Slot>,
    /// Its block table; what lies before `left` isn't held any more.
    pub(super) blocks: Vec<BlockId>,
    /// Leading blocks that have left every layer's window.
    pub(super) left: usize,
    /// Leading blocks of the table that all ranks know.
    pub(super) told: usize,
    /// Leading blocks that were offered to the prefix tree.
    pub(super) committed: usize,
    /// Where the last of those is in the tree; `None` with `committed` above 0 if it isn't.
    pub(super) node: Option<Node>,
    pub(super) finished: bool,
}

impl Sequence {
    /// Whether it has blocks, be they shared: sequences that wait for their prompt have none.
    pub(super) fn is_forked(&self) -> bool {
        self.computed > 0
    }

    /// Tokens that are still to be computed.
    pub(super) fn behind(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Gives all its blocks back.
    pub(super) fn release(&mut self, kv: &mut KvCache) {
        // The last ones first: they are the first that others can do without.
        for &block in self.blocks[self.left..].iter().rev() {
            kv.release(block);
        }
        self.blocks.clear();
        (self.left, self.told, self.committed, self.computed) = (0, 0, 0, 0);
        self.node = None;
    }
}

impl Group {
    /// A request that starts, with a slot for each of its sequences that hasn't ended, and memory for
    /// all that they may come to in blocks of `block` tokens.
    pub(super) fn new(waiting: Waiting, block: usize, mut slots: impl FnMut() -> Slot) -> Self {
        let deadline = waiting.deadline();
        let request = waiting.request;
        let whole = request.prompt.len() + request.max_tokens as usize;
        let sequence = |number: usize| {
            let resumed = request.resume.get(number);
            let mut tokens = Vec::with_capacity(whole);
            tokens.extend_from_slice(&request.prompt);
            tokens.extend(resumed.iter().flat_map(|resumed| &resumed.tokens));
            let finished = resumed.is_some_and(|resumed| resumed.finished);
            let slot = (!finished).then(&mut slots);
            let blocks = Vec::with_capacity(whole.div_ceil(block));
            Sequence { tokens, slot, blocks, finished, ..Sequence::default() }
        };
        let sequences = (0..request.search.width() as usize).map(sequence).collect();
        let beams = match request.search {
            Search::Beam(search) => Some(Beams::new(&request, search)),
            Search::Sample { .. } => None,
        };
        Self {
            root: root(&request),
            open: request.search.sequences() as usize - ended(&request),
            sequences,
            beams,
            reserves: false,
            promised: 0,
            paused: false,
            deadline,
            context_rows: 0,
            planned_in: 0,
            decoded_in: 0,
            counts: BlockCounts::default(),
            request,
        }
    }

    /// The sequence that computes the prompt for all.
    pub(super) fn trunk(&self) -> usize {
        self.sequences.iter().position(|sequence| !sequence.finished).unwrap_or(0)
    }

    /// Sequences that run: all that haven't ended, or the beams that live.
    pub(super) fn live(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.sequences.len()).filter(|&at| !self.sequences[at].finished)
    }

    /// Whether no sequence has a token yet.
    pub(super) fn is_fresh(&self) -> bool {
        let prompt = self.request.prompt.len();
        self.sequences.iter().all(|sequence| sequence.tokens.len() == prompt)
    }

    /// Whether the prompt is in the cache and all sequences have what they share of it.
    pub(super) fn is_forked(&self) -> bool {
        self.live().all(|at| self.sequences[at].is_forked())
    }

    /// Whether it computes what it knows already rather than what it has just generated.
    pub(super) fn in_context(&self) -> bool {
        self.is_fresh() || self.live().any(|at| self.sequences[at].behind() != 1)
    }

    /// How long a block that holds the token at `position` is kept.
    pub(super) fn retention(&self, position: usize) -> BlockRetention {
        let retention = &self.request.retention;
        if position >= self.request.prompt.len() {
            let (priority, duration) = (retention.decode_priority, retention.decode_duration);
            return BlockRetention { priority, duration };
        }
        let holds = |start: u32, end: Option<u32>| {
            start as usize <= position && end.is_none_or(|end| position < end as usize)
        };
        let range = retention.ranges.iter().find(|range| holds(range.start, range.end));
        range.map_or(
            BlockRetention { priority: RetentionPriority::DEFAULT, duration: None },
            |range| BlockRetention { priority: range.priority, duration: range.duration },
        )
    }

    /// Ends all sequences that haven't ended.
    pub(super) fn end(&mut self, reason: &FinishReason, events: &mut Vec<Event>) {
        for at in 0..self.request.search.sequences() as usize {
            // Beams beyond those that live have not ended, they never were.
            if self.beams.is_some() || !self.sequences[at].finished {
                self.finish(at, reason.clone(), None, events);
            }
        }
    }

    /// Ends a sequence.
    pub(super) fn finish(
        &mut self,
        at: usize,
        reason: FinishReason,
        score: Option<BeamScore>,
        events: &mut Vec<Event>,
    ) {
        self.sequences[at].finished = true;
        self.open -= 1;
        let ended = (self.open == 0).then_some(self.counts);
        let (id, sequence) = (self.request.id, at as u32);
        events.push(Event::Finished { id, sequence, reason, score, ended });
    }

    /// Whether all that comes back has come.
    pub(super) fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Gives all blocks and slots back, promised ones included.
    pub(super) fn give_back(&mut self, kv: &mut KvCache, slots: &mut Vec<Slot>) {
        for sequence in &mut self.sequences {
            sequence.release(kv);
            slots.extend(sequence.slot.take());
        }
        kv.unreserve(std::mem::take(&mut self.promised));
    }

    pub(super) fn stats(&self, step: u64) -> RequestStats {
        let prompt = self.request.prompt.len();
        let generated: usize =
            self.sequences.iter().map(|sequence| sequence.tokens.len() - prompt).sum();
        let trunk = &self.sequences[self.trunk()];
        RequestStats {
            id: self.request.id,
            stage: match self.in_context() {
                true => RequestStage::ContextInProgress,
                false => RequestStage::GenerationInProgress,
            },
            context_prefill_position: trunk.computed.min(prompt) as u64,
            num_generated_tokens: generated as u64,
            avg_num_decoded_tokens_per_iter: match self.decoded_in {
                0 => 0.0,
                iterations => generated as f64 / iterations as f64,
            },
            scheduled: self.planned_in == step,
            paused: self.paused,
            dis_serving_stats: None,
            alloc_total_blocks_per_request: self.counts.alloc_total,
            alloc_new_blocks_per_request: self.counts.alloc_new,
            reused_blocks_per_request: self.counts.reused,
            missed_blocks_per_request: self.counts.missed,
            kv_cache_hit_rate_per_request: self.counts.hit_rate(),
        }
    }
}

/// Sequences that had ended before the request came to this engine.
pub(super) fn ended(request: &Request) -> usize {
    request.resume.iter().filter(|resumed| resumed.finished).count()
}

/// Ends a request that has not started.
pub(super) fn end_waiting(waiting: &Waiting, reason: &FinishReason, events: &mut Vec<Event>) {
    let request = &waiting.request;
    let finished = |at: usize| request.resume.get(at).is_some_and(|resumed| resumed.finished);
    let mut open = (0..request.search.sequences() as usize).filter(|&at| !finished(at)).peekable();
    while let Some(at) = open.next() {
        events.push(Event::Finished {
            id: request.id,
            sequence: at as u32,
            reason: reason.clone(),
            score: None,
            ended: open.peek().is_none().then(BlockCounts::default),
        });
    }
}
