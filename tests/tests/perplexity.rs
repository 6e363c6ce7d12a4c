//! What is lost by the default's quantised activations and cache, against float32 on the same weights.

use anyhow::ensure;
use shardrun_cpu::Activations;
use shardrun_files::Gguf;
use shardrun_model::CacheType;
use shardrun_tests::{Losses, model};
use shardrun_text::Tokenizer;

const TOKENS: usize = 16384;
const WINDOW: usize = 512;
/// What perplexity may be, as a multiple of float32's.
const MOST: f64 = 1.005;

/// This project's own pages: text that is newer than the model, and long enough.
const PAGES: [&str; 5] = [
    include_str!("../../docs/architecture.md"),
    include_str!("../../docs/api.md"),
    include_str!("../../docs/slurm.md"),
    include_str!("../../docs/from-triton.md"),
    include_str!("../../docs/config.md"),
];

#[test]
fn quantised_activations_keep_the_model_s_quality() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let file = Gguf::open(&model)?;
    let mut tokens = Tokenizer::from_gguf(&file)?.encode(&PAGES.concat(), false)?;
    ensure!(tokens.len() >= TOKENS, "the pages have {} tokens", tokens.len());
    tokens.truncate(TOKENS);
    let windows: Vec<&[u32]> = tokens.chunks(WINDOW).collect();
    let exact = Losses::of(&file, &windows, Activations::Float32, CacheType::F32)?;
    let default = Losses::of(&file, &windows, Activations::Int8, CacheType::Bf16)?;
    let (ratio, error) = default.ratio(&exact);
    println!(
        "perplexity {:.4} in float32, {:.4} by default: {ratio:.5} ± {error:.5} times as much",
        exact.perplexity(),
        default.perplexity()
    );
    assert!(ratio < MOST, "{ratio} ± {error}; the limit is {MOST}");
    // Other bits are computed with, so no difference at all would mean that one mode is the other.
    assert_ne!(exact.perplexity().to_bits(), default.perplexity().to_bits());
    Ok(())
}
