//! An engine without a device: block tables as ranks keep them, a cache that remembers which token was
//! written where, and tokens that depend on nothing but what a sequence reads.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use shardrun_wire::{FinishReason, Request, RequestId};

use crate::kv::KvCacheConfig;
use crate::plan::{IterationPlan, Rows};
use crate::sampling::{Candidate, Sampled};
use crate::scheduler::{
    CapacityPolicy, ChunkingPolicy, Draw, Drawn, Event, PrefillBudget, Scheduler, SchedulerConfig,
    SchedulerStats,
};

const BLOCK: usize = 8;
/// Larger than any test's tokens.
pub(super) const VOCAB: u32 = 500;

pub(super) fn config() -> SchedulerConfig {
    SchedulerConfig {
        max_batch_size: 8,
        max_num_tokens: 64,
        capacity: CapacityPolicy::GuaranteedNoEvict,
        chunking: ChunkingPolicy::FirstComeFirstServed,
        prefill: PrefillBudget::Tokens(usize::MAX),
        queue_timeout: None,
        attention_window: None,
        kv_cache: KvCacheConfig {
            blocks: 64,
            tokens_per_block: BLOCK,
            reuse: true,
            partial_reuse: true,
            event_buffer: 0,
        },
    }
}

impl SchedulerConfig {
    pub(super) fn with_blocks(mut self, blocks: u32) -> Self {
        self.kv_cache.blocks = blocks;
        self
    }

    pub(super) fn with_reuse(mut self, reuse: bool) -> Self {
        self.kv_cache.reuse = reuse;
        self
    }
}

/// A request with a prompt of its own, as long as that.
pub(super) fn request(id: u64, prompt: usize, max_tokens: u32) -> Request {
    let prompt = (0..prompt as u32).map(|at| (at * 7 + id as u32 * 31) % VOCAB).collect();
    Request::new(RequestId(id), prompt, max_tokens)
}

pub(super) fn ids<const N: usize>(ids: [u64; N]) -> Vec<RequestId> {
    ids.map(RequestId).to_vec()
}

/// What each request's first sequence gets when nothing else is there.
pub(super) fn alone(requests: &[Request]) -> HashMap<RequestId, Vec<u32>> {
    let one = |request: &Request| {
        let mut engine = Engine::new(config());
        engine.add(request.clone());
        engine.run();
        (request.id, engine.tokens(request.id.0))
    };
    requests.iter().map(one).collect()
}

pub(super) struct Engine {
    pub(super) scheduler: Scheduler,
    config: SchedulerConfig,
    pub(super) now: Duration,
    /// How long an iteration takes, by its number and what its plan has.
    pub(super) time: fn(u64, SchedulerStats) -> Duration,
    tables: Vec<(u32, Vec<u32>)>,
    /// The token at each place of each block.
    memory: Vec<[Option<u32>; BLOCK]>,
    pub(super) drew: Vec<Draw>,
    pub(super) started: Vec<RequestId>,
    pub(super) ended: Vec<(RequestId, FinishReason)>,
    pub(super) sequences: HashMap<(RequestId, u32), Vec<u32>>,
    pub(super) reasons: HashMap<(RequestId, u32), FinishReason>,
}

impl Engine {
    pub(super) fn new(config: SchedulerConfig) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            config,
            now: Duration::ZERO,
            time: |_, _| Duration::ZERO,
            tables: vec![(0, Vec::new()); config.max_batch_size],
            memory: vec![[None; BLOCK]; config.kv_cache.blocks as usize],
            drew: Vec::new(),
            started: Vec::new(),
            ended: Vec::new(),
            sequences: HashMap::new(),
            reasons: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, request: Request) {
        self.scheduler.add(request, self.now);
    }

    pub(super) fn cancel(&mut self, id: u64) {
        let mut events = Vec::new();
        self.scheduler.end(RequestId(id), &FinishReason::Cancelled, &mut events);
        self.note(events);
    }

    /// Runs until nothing is left to do.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            if self.scheduler.is_idle() {
                return;
            }
            self.step().expect("something is always to be done");
        }
        panic!("no end: {:?}", self.scheduler.stats());
    }

    /// One iteration; gives its plan.
    pub(super) fn step(&mut self) -> Option<IterationPlan> {
        let mut events = Vec::new();
        self.scheduler.expire(self.now, &mut events);
        let plan = self.scheduler.schedule(self.now, &mut events).cloned();
        self.note(events);
        let plan = plan?;
        let rows = self.execute(&plan);
        let drawn = self.draw(&rows);
        let mut events = Vec::new();
        self.scheduler.complete(&drawn, &mut events);
        let time = (self.time)(plan.step, self.scheduler.stats());
        self.now += time;
        self.scheduler.took(time);
        self.note(events);
        Some(plan)
    }

    /// Does what every rank does, and gives for each row of logits a digest of all that it read.
    fn execute(&mut self, plan: &IterationPlan) -> Vec<u64> {
        assert!(plan.tokens.len() <= self.config.max_num_tokens);
        assert!(plan.sequences.len() <= self.config.max_batch_size);
        for &(from, to) in &plan.copies {
            self.memory[to as usize] = self.memory[from as usize];
        }
        let (mut token, mut block) = (0, 0);
        let mut spans = Vec::new();
        for sequence in &plan.sequences {
            let (generation, table) = &mut self.tables[sequence.slot as usize];
            if *generation != sequence.generation {
                *generation = sequence.generation;
                table.clear();
            }
            assert!(sequence.kept_blocks as usize <= table.len());
            table.truncate(sequence.kept_blocks as usize);
            table.extend(&plan.blocks[block..block + sequence.new_blocks as usize]);
            block += sequence.new_blocks as usize;
            let tokens = &plan.tokens[token..token + sequence.tokens as usize];
            token += tokens.len();
            for (position, &token) in (sequence.position as usize..).zip(tokens) {
                self.memory[table[position / BLOCK] as usize][position % BLOCK] = Some(token);
            }
            spans.push((sequence, table.clone()));
        }
        assert_eq!((token, block), (plan.tokens.len(), plan.blocks.len()));
        // All writes are done: two sequences that wrote to one block would show now.
        let mut rows = Vec::new();
        for (sequence, table) in spans {
            let end = (sequence.position + sequence.tokens) as usize;
            let positions = match sequence.logits {
                Rows::None => end..end,
                Rows::Last => end - 1..end,
                Rows::All => sequence.position as usize..end,
            };
            rows.extend(positions.map(|position| self.read(&table, position)));
        }
        rows
    }

    /// A digest of the tokens that a row at `position` sees.
    fn read(&self, table: &[u32], position: usize) -> u64 {
        let window = self.config.attention_window.unwrap_or(usize::MAX);
        let mut hasher = DefaultHasher::new();
        for at in (position + 1).saturating_sub(window)..=position {
            let token = self.memory[table[at / BLOCK] as usize][at % BLOCK];
            token.expect("what is read was written").hash(&mut hasher);
        }
        position.hash(&mut hasher);
        hasher.finish()
    }

    /// What [`Engine::read`] gives for the last of these tokens, if a sequence has them.
    fn digest(&self, tokens: &[u32]) -> u64 {
        let window = self.config.attention_window.unwrap_or(usize::MAX);
        let mut hasher = DefaultHasher::new();
        let seen = &tokens[tokens.len().saturating_sub(window)..];
        seen.iter().for_each(|token| token.hash(&mut hasher));
        (tokens.len() - 1).hash(&mut hasher);
        hasher.finish()
    }

    fn draw(&mut self, rows: &[u64]) -> Drawn {
        let mut drawn = Drawn::default();
        self.drew = self.scheduler.draws().to_vec();
        let mut used = 0;
        for &draw in &self.drew {
            match draw {
                Draw::Context { row, rows, .. } => used = used.max(row + rows),
                Draw::Sample { row, of } => {
                    let view = self.scheduler.view(of);
                    assert_eq!(view.sequence, of.sequence);
                    assert_eq!(rows[row], self.digest(view.tokens));
                    let token = token_after(rows[row], of.sequence);
                    drawn.samples.push(Some(Sampled { token, log_prob: 0.0 }));
                    used = used.max(row + 1);
                }
                Draw::Beam { row, beams, of, candidates } => {
                    for beam in 0..beams {
                        let view = self.scheduler.view(of.beam(beam));
                        assert_eq!(rows[row + beam], self.digest(view.tokens));
                        *drawn.next_beam() = likeliest(rows[row + beam], candidates);
                    }
                    used = used.max(row + beams);
                }
            }
        }
        assert_eq!(used, rows.len(), "every row of logits is for something");
        drawn
    }

    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Started { id } => self.started.push(id),
                Event::Token { id, sequence, token, .. } => {
                    assert!(!self.reasons.contains_key(&(id, sequence)), "after its end");
                    self.sequences.entry((id, sequence)).or_default().push(token);
                }
                Event::Finished { id, sequence, reason, ended, .. } => {
                    let twice = self.reasons.insert((id, sequence), reason.clone());
                    assert_eq!(twice, None, "{id:?} {sequence}");
                    if ended.is_some() {
                        self.ended.push((id, reason));
                    }
                }
            }
        }
    }

    pub(super) fn sequence(&self, id: u64, sequence: u32) -> Vec<u32> {
        self.sequences.get(&(RequestId(id), sequence)).cloned().unwrap_or_default()
    }

    pub(super) fn tokens(&self, id: u64) -> Vec<u32> {
        self.sequence(id, 0)
    }

    pub(super) fn reason(&self, id: u64) -> Option<FinishReason> {
        self.reasons.get(&(RequestId(id), 0)).cloned()
    }

    /// Blocks that requests hold.
    pub(super) fn used(&self) -> usize {
        self.scheduler.stats().used_blocks
    }

    pub(super) fn expect_all_free(&self) {
        assert!(self.scheduler.is_idle());
        assert_eq!(self.used(), 0);
        assert_eq!(self.scheduler.free_slots.len(), self.config.max_batch_size);
        assert_eq!(self.scheduler.cache.kv.available(), self.scheduler.cache.kv.total());
    }
}

/// What is sampled from a row: another token for each of a request's sequences.
fn token_after(row: u64, sequence: u32) -> u32 {
    ((row >> 8) as u32).wrapping_add(sequence * 101) % VOCAB
}

/// The likeliest tokens of a row, best first.
fn likeliest(row: u64, count: usize) -> Vec<Candidate> {
    let token = |at: usize| ((row >> 8) as u32).wrapping_add(at as u32 * 37) % VOCAB;
    // Sometimes there is one token only, so that beams get few and then more again.
    let count = if row.is_multiple_of(4) { 1 } else { count };
    let spread = 0.2 + (row % 7) as f32 / 7.0;
    (0..count)
        .map(|at| Candidate { token: token(at), log_prob: -0.1 - spread * at as f32 })
        .collect()
}
