//! What quantised activations and the types of the cache cost a model: perplexity of a text for each, side
//! by side.
//!
//!     perplexity MODEL TEXT... [--max-tokens N] [--window N]
//!
//! The text is cut into windows. Every token of a window but the first is predicted from those before it.
//! Perplexity is e to the mean of the negative logarithms of what the tokens were given.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Parser;
use shardrun_cpu::{Activations, Kernels};
use shardrun_files::Gguf;
use shardrun_model::{CacheType, ModelConfig};
use shardrun_tests::Losses;
use shardrun_text::Tokenizer;

/// Perplexity of a text for each kind of activations and each type of the cache.
#[derive(Parser)]
struct Options {
    /// The model, a GGUF file.
    model: PathBuf,
    /// The text, in UTF-8: these files, one after the other.
    #[arg(required = true)]
    text: Vec<PathBuf>,
    /// Tokens to take, from the start of the text.
    #[arg(long, default_value_t = 8704)]
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
    let mut text = String::new();
    for path in &options.text {
        let more = std::fs::read_to_string(path);
        text += &more.with_context(|| format!("cannot read {}", path.display()))?;
    }
    let mut tokens = Tokenizer::from_gguf(&file)?.encode(&text, false)?;
    tokens.truncate(options.max_tokens);
    ensure!(tokens.len() >= 2, "{} tokens; at least 2 are needed", tokens.len());
    let windows: Vec<&[u32]> = tokens.chunks(options.window).collect();
    println!("{} tokens in {} windows of up to {}", tokens.len(), windows.len(), options.window);
    println!("activations  cache  perplexity  ratio to float32");

    let mut exact = None;
    let mut modes = vec![Activations::Float32, Activations::Int8];
    if Kernels::detect().has_pairs() {
        modes.push(Activations::Bfloat16);
    }
    for activations in modes {
        for dtype in CacheType::ALL {
            let losses = Losses::of(&file, &windows, activations, dtype)?;
            let (ratio, error) = losses.ratio(exact.get_or_insert_with(|| losses.clone()));
            let name = match activations {
                Activations::Float32 => "f32",
                Activations::Int8 => "int8",
                Activations::Bfloat16 => "bf16",
            };
            let perplexity = losses.perplexity();
            println!("{name:<11}  {dtype:<5}  {perplexity:>10.4}  {ratio:.5} ± {error:.5}");
        }
    }
    Ok(())
}
