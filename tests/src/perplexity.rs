//! How well a model predicts a text, by what it computes with.

use shardrun_comm::Solo;
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Kernels};
use shardrun_files::Gguf;
use shardrun_model::{
    Backend as _, Batch, CacheShape, CacheType, Decoder, ModelConfig, Shard, Span,
};

use anyhow::Context as _;

/// Most rows of an iteration.
const CHUNK: usize = 512;
const TOKENS_PER_BLOCK: usize = 32;

/// The losses of all tokens of some windows of a text but each one's first: the negative logarithms of
/// the probabilities that the model gave them.
///
/// Each window begins with nothing in the cache and goes through the model in chunks, as a prompt does.
#[derive(Clone, Debug)]
pub struct Losses(Vec<f64>);

impl Losses {
    /// Those of the model in `file`, whole and in this process, with these activations and type of cache.
    ///
    /// # Errors
    /// If the model can't be loaded, or has no room for a window.
    pub fn of(
        file: &Gguf,
        windows: &[&[u32]],
        activations: Activations,
        dtype: CacheType,
    ) -> anyhow::Result<Self> {
        let longest = windows.iter().map(|window| window.len()).max().unwrap_or(0);
        let mut engine = Engine::load(file, activations, dtype, longest)?;
        let mut losses = Vec::new();
        for window in windows {
            engine.losses(window, &mut losses)?;
        }
        Ok(Self(losses))
    }

    /// e to their mean.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        mean(&self.0).exp()
    }

    /// The ratio of this perplexity to that of the `exact` losses of the same tokens, and its standard
    /// error.
    #[must_use]
    pub fn ratio(&self, exact: &Self) -> (f64, f64) {
        let differences: Vec<f64> = self.0.iter().zip(&exact.0).map(|(a, b)| a - b).collect();
        let mean = mean(&differences);
        let squares = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>();
        let ratio = mean.exp();
        (ratio, ratio * squares.sqrt() / self.0.len() as f64)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The whole model in this process.
struct Engine {
    backend: CpuBackend,
    decoder: Decoder<CpuBackend>,
}

impl Engine {
    /// The model with a cache for one window.
    fn load(
        file: &Gguf,
        activations: Activations,
        dtype: CacheType,
        window: usize,
    ) -> anyhow::Result<Self> {
        let config = ModelConfig::from_gguf(file)?;
        let shard = Shard::new(&config, 0, 1)?;
        let threads = std::thread::available_parallelism()?.get();
        let kernels = Kernels::detect();
        let options = CpuOptions { threads, kernels, activations, cores: None, spin: false };
        let mut backend = CpuBackend::new(options, Box::new(Solo))?;
        let cache = CacheShape {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            blocks: window.div_ceil(TOKENS_PER_BLOCK),
            tokens_per_block: TOKENS_PER_BLOCK,
            dtype,
        };
        backend.allocate_cache(cache)?;
        let decoder = Decoder::load(&mut backend, file, config, shard, |_| {})?;
        Ok(Self { backend, decoder })
    }

    /// Adds the loss of each token of `window` but the first.
    fn losses(&mut self, window: &[u32], losses: &mut Vec<f64>) -> anyhow::Result<()> {
        // Nothing comes after the last token that it could predict.
        let inputs = &window[..window.len() - 1];
        for (at, chunk) in inputs.chunks(CHUNK).enumerate() {
            let position = at * CHUNK;
            let rows = chunk.len();
            let blocks = (position + rows).div_ceil(TOKENS_PER_BLOCK);
            let batch = Batch {
                tokens: chunk.to_vec(),
                spans: vec![Span { rows: 0..rows, position, blocks: 0..blocks }],
                blocks: (0..blocks as u32).collect(),
                sampled: (0..rows as u32).collect(),
            };
            let logits = self.decoder.forward(&mut self.backend, &batch)?;
            let logits = logits.context("rank 0 has the logits of sampled rows")?;
            let logits = self.backend.read(&logits)?;
            let targets = &window[position + 1..=position + rows];
            let rows = logits.chunks_exact(logits.len() / rows);
            losses.extend(rows.zip(targets).map(|(row, &target)| loss(row, target)));
        }
        Ok(())
    }
}

/// The negative logarithm of the probability that `logits` give `target`.
fn loss(logits: &[f32], target: u32) -> f64 {
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - greatest).exp()).sum();
    total.ln() + greatest - f64::from(logits[target as usize])
}
