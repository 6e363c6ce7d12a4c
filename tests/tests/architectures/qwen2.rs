//! Qwen2.5-Coder-0.5B-Instruct against an independent float32 implementation, where its file is at hand.

use anyhow::{Context as _, ensure};
use shardrun_cpu::{Activations, Kernels};
use shardrun_model::CacheType;
use shardrun_tests::{golden_qwen, qwen};

use crate::ranks::{Computing, Sequence, logits};

/// No logit differs by more from the reference's. Measured were 6.9e-5, with the weights dequantised.
const LOGIT_ERROR: f32 = 2e-4;

#[test]
fn logits_and_greedy_tokens_are_the_reference_s() -> anyhow::Result<()> {
    let Some(model) = qwen()? else { return Ok(()) };
    let golden = golden_qwen()?;
    let texts: Vec<Vec<u32>> = golden
        .prompts
        .iter()
        .map(|prompt| [&prompt.ids[..], &prompt.greedy[..prompt.greedy.len() - 1]].concat())
        .collect();
    let sequences: Vec<Sequence<'_>> = golden
        .prompts
        .iter()
        .zip(&texts)
        .map(|(prompt, text)| Sequence { tokens: text, from: prompt.ids.len() - 1 })
        .collect();
    let computing = Computing {
        kernels: Kernels::detect(),
        activations: Activations::Float32,
        cache: CacheType::F32,
    };
    let rows = logits(&model, computing, 1, &sequences)?;
    let mut rows = rows.into_iter();
    let mut largest = 0.0_f32;
    for prompt in &golden.prompts {
        for (step, (&token, &gap)) in prompt.greedy.iter().zip(&prompt.gap).enumerate() {
            let row = rows.next().context("a row of logits for every token")?;
            ensure!(row.iter().all(|logit| logit.is_finite()), "{:?}", prompt.text);
            if step == 0 {
                largest = largest.max(prompt.largest_error(&row));
            }
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            assert!(
                best == Some(token as usize) || gap < 2.0 * LOGIT_ERROR,
                "token {step} after {:?} is {best:?}, not {token}, which is {gap} ahead",
                prompt.text
            );
        }
    }
    println!("the largest error is {largest:.2e}, the limit {LOGIT_ERROR:.0e}");
    assert!(largest < LOGIT_ERROR, "a logit differs by {largest}, the limit is {LOGIT_ERROR}");
    Ok(())
}
