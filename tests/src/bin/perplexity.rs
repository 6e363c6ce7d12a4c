//! What quantised activations and the types of the cache cost a model: perplexity of a text for each, side
//! by side.
//!
//!     perplexity MODEL TEXT [--max-tokens N] [--window N]
//!
//! The text is cut into windows. Each begins with nothing in the cache, goes through the model in chunks,
//! as a prompt does, and every token but the first is predicted from those before it. Perplexity is
//! e to the mean of the negative logarithms of what the tokens were given.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Parser;
use shardrun_comm::Solo;
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Kernels};
use shardrun_files::Gguf;
use shardrun_model::{
    Backend as _, Batch, CacheShape, CacheType, Decoder, ModelConfig, Shard, Span,
};
use shardrun_text::Tokenizer;

/// Most rows of an iteration.
const CHUNK: usize = 512;
const TOKENS_PER_BLOCK: usize = 32;

/// Perplexity of a text for each kind of activations and each type of the cache.
#[derive(Parser)]
struct Options {
    /// The model, a GGUF file.
    model: PathBuf,
    /// The text, in UTF-8.
    text: PathBuf,
    /// Tokens to take, from the start of the text.
    #[arg(long, default_value_t = 8192)]
    max_tokens: usize,
    /// Tokens of a window.
    #[arg(long, default_value_t = 512)]
    window: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let file = Gguf::open(&options.model)?;
    let context_len = ModelConfig::from_gguf(&file)?.context_len;
    ensure!(
        (2..=context_len).contains(&options.window),
        "--window is {}; 2 to {context_len}, the model's context, will do",
        options.window
    );
    let text = std::fs::read_to_string(&options.text)
        .with_context(|| format!("cannot read {}", options.text.display()))?;
    let mut tokens = Tokenizer::from_gguf(&file)?.encode(&text, false)?;
    tokens.truncate(options.max_tokens);
    ensure!(tokens.len() >= 2, "{} tokens; at least 2 are needed", tokens.len());
    let windows: Vec<&[u32]> = tokens.chunks(options.window).collect();
    println!("{} tokens in {} windows of up to {}", tokens.len(), windows.len(), options.window);
    println!("activations  cache  perplexity  ratio to float32");

    let mut exact = Vec::new();
    for activations in [Activations::Float32, Activations::Int8] {
        for dtype in CacheType::ALL {
            let mut engine = Engine::load(&file, activations, dtype, options.window)?;
            let mut losses = Vec::new();
            for window in &windows {
                engine.losses(window, &mut losses)?;
            }
            if exact.is_empty() {
                exact.clone_from(&losses);
            }
            let (ratio, error) = ratio(&losses, &exact);
            let name = match activations {
                Activations::Float32 => "f32",
                Activations::Int8 => "int8",
            };
            let perplexity = mean(&losses).exp();
            println!("{name:<11}  {dtype:<5}  {perplexity:>10.4}  {ratio:.5} ± {error:.5}");
        }
    }
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The ratio of two perplexities of the same tokens, and its standard error.
fn ratio(losses: &[f64], exact: &[f64]) -> (f64, f64) {
    let differences: Vec<f64> = losses.iter().zip(exact).map(|(a, b)| a - b).collect();
    let mean = mean(&differences);
    let squares = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>();
    let ratio = mean.exp();
    (ratio, ratio * squares.sqrt() / losses.len() as f64)
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
