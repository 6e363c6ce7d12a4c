//! A model that is shared by ranks that are threads of this process.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use shardrun_comm::{CommError, Group};
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Kernels};
use shardrun_files::Gguf;
use shardrun_model::{
    Backend as _, Batch, CacheShape, CacheType, Decoder, ModelConfig, Shard, Span,
};

const TOKENS_PER_BLOCK: usize = 32;

/// Tokens, and the position from which on logits are wanted.
pub(crate) struct Sequence<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) from: usize,
}

/// What ranks compute with.
#[derive(Clone, Copy)]
pub(crate) struct Computing {
    pub(crate) kernels: Kernels,
    pub(crate) activations: Activations,
    pub(crate) cache: CacheType,
}

/// The logits that `tp_size` ranks give, a row for each wanted position of each sequence.
///
/// # Errors
/// If the model can't be loaded or run.
pub(crate) fn logits(
    model: &Path,
    computing: Computing,
    tp_size: usize,
    sequences: &[Sequence<'_>],
) -> anyhow::Result<Vec<Vec<f32>>> {
    let groups = Together::of(tp_size);
    std::thread::scope(|scope| {
        let ranks: Vec<_> = groups
            .into_iter()
            .map(|group| scope.spawn(move || rank(model, computing, group, sequences)))
            .collect();
        let mut answers = ranks.into_iter().map(|rank| rank.join().expect("a rank does not panic"));
        let first = answers.next().context("there is a rank")?;
        answers.try_for_each(|other| other.map(drop))?;
        first
    })
}

fn rank(
    model: &Path,
    computing: Computing,
    group: Together,
    sequences: &[Sequence<'_>],
) -> anyhow::Result<Vec<Vec<f32>>> {
    let file = Gguf::open(model)?;
    let config = ModelConfig::from_gguf(&file)?;
    let vocab = config.vocab;
    let shard = Shard::new(&config, group.rank(), group.size())?;
    let batch = lay_out(sequences);
    let Computing { kernels, activations, cache } = computing;
    let options = CpuOptions { threads: 1, kernels, activations, cores: None, spin: false };
    let mut backend = CpuBackend::new(options, Box::new(group))?;
    backend.allocate_cache(CacheShape {
        layers: config.layers,
        kv_heads: shard.heads.kv_heads.len(),
        head_dim: config.head_dim,
        blocks: batch.blocks.len(),
        tokens_per_block: TOKENS_PER_BLOCK,
        dtype: cache,
    })?;
    let decoder = Decoder::load(&mut backend, &file, config, shard, |_| {})?;
    let Some(logits) = decoder.forward(&mut backend, &batch)? else { return Ok(Vec::new()) };
    Ok(backend.read(&logits)?.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
}

fn lay_out(sequences: &[Sequence<'_>]) -> Batch {
    let mut batch = Batch::default();
    for Sequence { tokens, from } in sequences {
        let first = batch.tokens.len();
        batch.tokens.extend(*tokens);
        let blocks =
            batch.blocks.len()..batch.blocks.len() + tokens.len().div_ceil(TOKENS_PER_BLOCK);
        batch.blocks.extend(blocks.clone().map(|block| block as u32));
        batch.sampled.extend((first + from..batch.tokens.len()).map(|row| row as u32));
        batch.spans.push(Span { rows: first..batch.tokens.len(), position: 0, blocks });
    }
    batch
}

/// Ranks that send each other what they have; one that fails takes the others along.
struct Together {
    rank: usize,
    to: Vec<Sender<Vec<f32>>>,
    from: Vec<Receiver<Vec<f32>>>,
}

impl Together {
    fn of(size: usize) -> Vec<Self> {
        let mut ranks: Vec<Self> =
            (0..size).map(|rank| Self { rank, to: Vec::new(), from: Vec::new() }).collect();
        for sender in 0..size {
            for receiver in 0..size {
                let (to, from) = channel();
                ranks[sender].to.push(to);
                ranks[receiver].from.push(from);
            }
        }
        ranks
    }

    /// What every rank has, in their order.
    fn exchange(&self, own: &[f32]) -> Vec<Vec<f32>> {
        self.to.iter().for_each(|to| to.send(own.to_vec()).expect("the other ranks are there"));
        self.from.iter().map(|from| from.recv().expect("the other ranks are there")).collect()
    }
}

impl Group for Together {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn all_reduce(&mut self, data: &mut [f32]) -> Result<(), CommError> {
        let parts = self.exchange(data);
        data.fill(0.0);
        for part in parts {
            data.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        Ok(())
    }

    fn gather_columns(
        &mut self,
        part: &[f32],
        columns: &[Range<usize>],
        whole: &mut [f32],
    ) -> Result<(), CommError> {
        let total = columns.last().map_or(0, |last| last.end);
        for (part, columns) in self.exchange(part).iter().zip(columns) {
            let rows = whole.chunks_exact_mut(total);
            for (whole, part) in rows.zip(part.chunks_exact(columns.len())) {
                whole[columns.clone()].copy_from_slice(part);
            }
        }
        Ok(())
    }
}
