//! Running plans on one rank: the same on the leader and on every follower.

use shardrun_model::{Backend, Batch, BlockCopy, Decoder, Span};
use thiserror::Error;

use crate::plan::{Compute, IterationPlan, Rows, SequencePlan};

/// One rank's shard, its cache, and the block tables that plans have built up.
pub struct Executor<B: Backend> {
    backend: B,
    model: Decoder<B>,
    tables: Vec<BlockTable>,
    tokens_per_block: usize,
    kv_blocks: u32,
    batch: Batch,
    copies: Vec<BlockCopy>,
    /// The likeliest tokens of the last iteration that gave them.
    best: Vec<u32>,
}

/// What an iteration gave for its sampled rows, on rank 0.
#[derive(Clone, Copy, Debug)]
pub enum Computed<'a> {
    /// `[rows, vocabulary]`
    Logits(&'a [f32]),
    /// The likeliest token of each row, the lowest of equally likely ones.
    Best(&'a [u32]),
}

#[derive(Debug)]
struct BlockTable {
    generation: u32,
    blocks: Vec<u32>,
}

/// What the memory of an [`Executor`] is made for.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorLimits {
    /// Sequences in one iteration.
    pub max_batch_size: usize,
    /// Tokens of a sequence.
    pub max_seq_len: usize,
    /// Tokens of a block.
    pub tokens_per_block: usize,
    /// Blocks of the cache.
    pub kv_blocks: u32,
}

/// Why a plan could not be run.
#[derive(Debug, Error)]
pub enum ExecuteError<E: std::error::Error + 'static> {
    /// The plan does not fit what came before it: leader and follower disagree.
    #[error("the plan of step {step} asks for {what} {value}; there are {limit}")]
    Plan {
        /// Which iteration.
        step: u64,
        /// What it names.
        what: &'static str,
        /// Which of it.
        value: usize,
        /// How many there are.
        limit: usize,
    },
    /// The device or a peer failed.
    #[error("step {step}: {source}")]
    Device {
        /// Which iteration.
        step: u64,
        /// The device's reason.
        source: E,
    },
}

impl<B: Backend> Executor<B> {
    /// An executor on a cache that `backend` has made.
    pub fn new(backend: B, model: Decoder<B>, limits: ExecutorLimits) -> Self {
        let ExecutorLimits { max_batch_size, max_seq_len, tokens_per_block, kv_blocks } = limits;
        let most = max_seq_len.div_ceil(tokens_per_block);
        let table = || BlockTable { generation: 0, blocks: Vec::with_capacity(most) };
        let blocks = Vec::with_capacity(max_batch_size * most);
        let tables = (0..max_batch_size).map(|_| table()).collect();
        Self {
            backend,
            model,
            tables,
            tokens_per_block,
            kv_blocks,
            batch: Batch { blocks, ..Batch::default() },
            copies: Vec::new(),
            best: Vec::with_capacity(max_batch_size),
        }
    }

    /// The model of this rank.
    #[must_use]
    pub fn model(&self) -> &Decoder<B> {
        &self.model
    }

    /// Runs `plan`, then gives `take` what was to be computed of the sampled rows, if this is rank 0 and
    /// there are any.
    ///
    /// # Errors
    /// [`ExecuteError`]; the ranks are out of step then, and the instance is lost.
    pub fn run(
        &mut self,
        plan: &IterationPlan,
        compute: Compute,
        take: impl FnOnce(Computed<'_>),
    ) -> Result<(), ExecuteError<B::Error>> {
        let step = plan.step;
        self.lay_out(plan)?;
        let failed = |source| ExecuteError::Device { step, source };
        if !self.copies.is_empty() {
            self.backend.copy_blocks(&self.copies).map_err(failed)?;
        }
        let Self { model, backend, batch, best, .. } = self;
        match compute {
            Compute::Logits => {
                if let Some(logits) = model.forward(backend, batch).map_err(failed)? {
                    take(Computed::Logits(backend.read(&logits).map_err(failed)?));
                }
            }
            Compute::Best => {
                best.clear();
                model.forward_best(backend, batch, best).map_err(failed)?;
                if !best.is_empty() {
                    take(Computed::Best(best));
                }
            }
        }
        Ok(())
    }

    /// Turns a plan into a batch. A follower has it from shared memory or the network, so nothing
    /// in it is believed.
    fn lay_out(&mut self, plan: &IterationPlan) -> Result<(), ExecuteError<B::Error>> {
        let refuse =
            |what, value, limit| ExecuteError::Plan { step: plan.step, what, value, limit };
        let vocab = self.model.config().vocab;
        self.batch.clear();
        self.batch.tokens.extend_from_slice(&plan.tokens);
        if let Some(&token) = plan.tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(refuse("token", token as usize, vocab));
        }
        self.copies.clear();
        self.copies.extend(plan.copies.iter().map(|&(from, to)| BlockCopy { from, to }));
        let (mut row, mut new_block) = (0, 0);
        for planned in &plan.sequences {
            let &SequencePlan { slot, generation, position, tokens, .. } = planned;
            let slots = self.tables.len();
            let table =
                self.tables.get_mut(slot as usize).ok_or(refuse("slot", slot as usize, slots))?;
            if table.generation != generation {
                table.generation = generation;
                table.blocks.clear();
            }
            let kept = planned.kept_blocks as usize;
            if kept > table.blocks.len() {
                return Err(refuse("known block", kept, table.blocks.len()));
            }
            table.blocks.truncate(kept);
            let new_end = new_block + planned.new_blocks as usize;
            let added = plan.blocks.get(new_block..new_end);
            let added = added.ok_or(refuse("new block", new_end, plan.blocks.len()))?;
            if let Some(&block) = added.iter().find(|&&block| block >= self.kv_blocks) {
                return Err(refuse("block", block as usize, self.kv_blocks as usize));
            }
            table.blocks.extend_from_slice(added);
            new_block = new_end;

            let rows = row..row + tokens as usize;
            let position = position as usize;
            let held = table.blocks.len() * self.tokens_per_block;
            if rows.end > plan.tokens.len() {
                return Err(refuse("row", rows.end, plan.tokens.len()));
            }
            if position + rows.len() > held {
                return Err(refuse("position", position + rows.len(), held));
            }
            let first = self.batch.blocks.len();
            self.batch.blocks.extend_from_slice(&table.blocks);
            row = rows.end;
            let (first_row, end) = (rows.start as u32, rows.end as u32);
            match planned.logits {
                Rows::None => {}
                Rows::Last => self.batch.sampled.extend((first_row..end).last()),
                Rows::All => self.batch.sampled.extend(first_row..end),
            }
            self.batch.spans.push(Span { rows, position, blocks: first..self.batch.blocks.len() });
        }
        if row != plan.tokens.len() {
            return Err(refuse("rows up to", row, plan.tokens.len()));
        }
        Ok(())
    }
}
