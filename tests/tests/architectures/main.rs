//! Every architecture, with weights of every type, over one rank and several, against an independent
//! float32 implementation.

mod made;
mod qwen2;
mod ranks;

use anyhow::Context as _;
use serde::Deserialize;
use shardrun_cpu::{Activations, Isa, Kernels};
use shardrun_model::CacheType;

use made::Stored;
use ranks::{Computing, Sequence, logits};

/// golden/tiny.json.
#[derive(Deserialize)]
struct Golden {
    architecture: String,
    sequences: Vec<GoldenSequence>,
}

#[derive(Deserialize)]
struct GoldenSequence {
    tokens: Vec<u32>,
    /// After each of the tokens.
    logits: Vec<Vec<f32>>,
}

/// No logit differs by more from the reference's. Measured were 1.5e-5 for llama and 2.7e-6 for qwen2,
/// whose logits have standard deviations of 1.2 and 0.6.
const LOGIT_ERROR: f32 = 4e-5;
/// The same with quantised activations and a cache in bfloat16. Measured were 0.188 and
/// 0.036, the same over any number of ranks.
const DEFAULT_LOGIT_ERROR: f32 = 0.25;
/// The same with activations and a cache in bfloat16. Measured were 0.054 and 0.017, the same
/// over any number of ranks.
const BFLOAT16_LOGIT_ERROR: f32 = 0.08;

/// The largest difference to the golden logits.
fn error(
    golden: &Golden,
    stored: Stored,
    computing: Computing,
    tp_size: usize,
) -> anyhow::Result<f32> {
    let folder = tempfile::tempdir()?;
    let model = made::write(folder.path(), &golden.architecture, stored)?;
    let sequences: Vec<Sequence<'_>> = golden
        .sequences
        .iter()
        .map(|golden| Sequence { tokens: &golden.tokens, from: 0 })
        .collect();
    let ours = logits(&model, computing, tp_size, &sequences)?;
    let theirs: Vec<&Vec<f32>> =
        golden.sequences.iter().flat_map(|golden| &golden.logits).collect();
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().flatten().zip(theirs.into_iter().flatten());
    Ok(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, error| {
        assert!(!error.is_nan());
        f32::max(largest, error)
    }))
}

fn check(
    stored: Stored,
    (activations, cache): (Activations, CacheType),
    limit: f32,
) -> anyhow::Result<()> {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("../../golden/tiny.json"))?;
    assert_eq!(golden.len(), 2);
    for isa in Isa::ALL {
        let Ok(kernels) = Kernels::new(isa) else {
            println!("skipped: this machine has no {isa}");
            continue;
        };
        if activations == Activations::Bfloat16 && !kernels.has_pairs() {
            continue;
        }
        let computing = Computing { kernels, activations, cache };
        for golden in &golden {
            // Three ranks cut super-blocks of the MLP; four share two KV heads.
            for tp_size in 1..=4 {
                let what =
                    format!("{} over {tp_size} ranks, {isa}, {stored:?}", golden.architecture);
                let error = error(golden, stored, computing, tp_size).context(what.clone())?;
                println!("{what}: the largest error is {error:.2e}");
                assert!(error < limit, "{what}: a logit differs by {error}");
            }
        }
    }
    Ok(())
}

const EXACT: (Activations, CacheType) = (Activations::Float32, CacheType::F32);
const DEFAULT: (Activations, CacheType) = (Activations::Int8, CacheType::Bf16);

#[test]
fn dequantised_weights_give_the_reference_s_logits() -> anyhow::Result<()> {
    check(Stored::Dequantised, EXACT, LOGIT_ERROR)
}

#[test]
fn quantised_weights_give_the_reference_s_logits() -> anyhow::Result<()> {
    check(Stored::Quantised, EXACT, LOGIT_ERROR)
}

#[test]
fn quantised_activations_come_near_the_reference_s_logits() -> anyhow::Result<()> {
    check(Stored::Quantised, DEFAULT, DEFAULT_LOGIT_ERROR)
}

#[test]
fn activations_in_bfloat16_come_near_the_reference_s_logits() -> anyhow::Result<()> {
    let bfloat16 = (Activations::Bfloat16, CacheType::Bf16);
    check(Stored::Dequantised, bfloat16, BFLOAT16_LOGIT_ERROR)?;
    check(Stored::Quantised, bfloat16, BFLOAT16_LOGIT_ERROR)
}
