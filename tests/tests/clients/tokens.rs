//! Requests and answers of the model `tensorrt_llm`.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// Tokens of the vocabulary, and logits of a row.
pub(super) const VOCAB: usize = 49152;

/// So many greedy tokens after a prompt, which is left out; nothing ends them.
pub(super) fn ask(prompt: &[u32], new_tokens: usize) -> Value {
    json!({"input_ids": prompt, "input_lengths": prompt.len(), "request_output_len": new_tokens,
           "exclude_input_in_output": true})
}

/// An output of numbers, or of one.
pub(super) fn floats(output: &Value) -> anyhow::Result<Vec<f32>> {
    numbers(output, |number| number.as_f64().map(|number| number as f32))
}

/// As [`floats`], of whole numbers.
pub(super) fn integers(output: &Value) -> anyhow::Result<Vec<i64>> {
    numbers(output, Value::as_i64)
}

fn numbers<T>(output: &Value, read: impl Fn(&Value) -> Option<T>) -> anyhow::Result<Vec<T>> {
    let one = std::slice::from_ref(output);
    let all = output.as_array().map_or(one, Vec::as_slice);
    let read = |number| read(number).with_context(|| format!("a number and not {number}"));
    all.iter().map(read).collect()
}

/// The tokens of each sequence, without those that fill it up.
pub(super) fn rows(output: &Value, lengths: &[i64]) -> anyhow::Result<Vec<Vec<u32>>> {
    let all = integers(output)?;
    let longest = lengths.iter().copied().max().context("a sequence")? as usize;
    ensure!(all.len() == longest * lengths.len(), "{} tokens for {lengths:?}", all.len());
    let row = |(row, &length): (&[i64], &i64)| {
        let (tokens, filling) = row.split_at(length as usize);
        ensure!(filling.iter().all(|&token| token == -1), "{row:?} is filled up with -1");
        tokens.iter().map(|&token| Ok(u32::try_from(token)?)).collect()
    };
    all.chunks(longest).zip(lengths).map(row).collect()
}

/// Where the largest value stands.
pub(super) fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|one, two| one.1.total_cmp(two.1));
    best.map_or(0, |(token, _)| token as u32)
}
