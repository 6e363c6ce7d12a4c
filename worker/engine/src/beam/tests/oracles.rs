//! Whole searches against all sequences there are, and against transformers.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// A made-up number for a row of tokens.
fn logits(seed: u64, vocab_size: u32, tokens: &[u32]) -> Vec<f32> {
    let mix = |state: u64, value: u64| {
        let state = (state ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^ state >> 29
    };
    let state = tokens.iter().fold(mix(1, seed), |state, &token| mix(state, 7 + u64::from(token)));
    (0..vocab_size).map(|token| (mix(state, u64::from(token)) >> 40) as f32 * 2e-7).collect()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit) - sum.ln()).collect()
}

/// Every sequence that ends, with its score.
fn all_sequences(
    request: &Request,
    penalty: f32,
    seed: u64,
    vocab_size: u32,
) -> Vec<(Vec<u32>, f64)> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), 0.0f64)];
    while let Some((tokens, sum)) = open.pop() {
        let mut prompt = request.prompt.clone();
        prompt.extend(&tokens);
        for (token, log_prob) in (0u32..).zip(log_softmax(&logits(seed, vocab_size, &prompt))) {
            let mut tokens = tokens.clone();
            tokens.push(token);
            let length = tokens.len();
            let score = (sum + log_prob) / (length as f64).powf(f64::from(penalty));
            if request.end_id == Some(token) {
                tokens.pop();
                found.push((tokens, score));
            } else if length == request.max_tokens as usize
                || request.stop_words.iter().any(|word| tokens.ends_with(word))
            {
                found.push((tokens, score));
            } else {
                open.push((tokens, sum + log_prob));
            }
        }
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found
}

fn contains(all: &[(Vec<u32>, f64)], found: &Hypothesis) -> bool {
    all.iter().any(|(tokens, score)| {
        *tokens == found.tokens && (score - f64::from(found.score)).abs() < 1e-4
    })
}

proptest! {
    /// A search as wide as there are sequences finds the best of all.
    #[test]
    fn a_wide_search_is_exhaustive(
        seed in any::<u64>(),
        vocab_size in 2u32..5,
        max_tokens in 1u32..5,
        length_penalty in -1.0f32..2.0,
        stop_words in prop::collection::vec(prop::collection::vec(0u32..5, 1..3), 0..2),
    ) {
        let mut request = request(max_tokens);
        request.end_id = Some(1);
        request.stop_words = stop_words;
        let all = all_sequences(&request, length_penalty, seed, vocab_size);
        let width = 2 * vocab_size.pow(max_tokens);
        let wide = BeamSearch { width, sequences: width, length_penalty, early_stopping: 2, ..SEARCH };
        let found = search(&request, wide, |tokens| logits(seed, vocab_size, tokens));
        prop_assert_eq!(found.len(), all.len());
        for (found, (tokens, score)) in found.iter().zip(&all) {
            prop_assert!((f64::from(found.score) - score).abs() < 1e-4);
            prop_assert_eq!(found.log_probs.len(), found.tokens.len());
            // Rounding may order those otherwise that hardly differ.
            prop_assert!(contains(&all, found), "{:?}, not {:?}", found.tokens, tokens);
        }
    }

    /// However narrow, a search gives true scores, best first, and never a sequence twice.
    #[test]
    fn a_narrow_search_finds_some_of_all(
        seed in any::<u64>(),
        width in 2u32..5,
        early_stopping in 0i32..3,
        length_penalty in -1.0f32..2.0,
    ) {
        let mut request = request(4);
        request.end_id = Some(1);
        let all = all_sequences(&request, length_penalty, seed, 5);
        let narrow = BeamSearch { width, sequences: width, length_penalty, early_stopping, ..SEARCH };
        let found = search(&request, narrow, |tokens| logits(seed, 5, tokens));
        prop_assert_eq!(found.len(), width as usize);
        prop_assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        for (place, one) in found.iter().enumerate() {
            prop_assert!(contains(&all, one));
            let again = found[..place].iter().any(|other| {
                other.tokens == one.tokens && other.reason == one.reason
            });
            prop_assert!(!again);
        }
    }
}

#[derive(Deserialize)]
struct Golden {
    table: Vec<Vec<f32>>,
    table_end_id: u32,
    table_prompt: Vec<u32>,
    beams: Vec<GoldenSearch>,
}

#[derive(Deserialize)]
struct GoldenSearch {
    width: u32,
    sequences: u32,
    length_penalty: f32,
    early_stopping: i32,
    max_tokens: u32,
    hypotheses: Vec<GoldenHypothesis>,
}

#[derive(Deserialize)]
struct GoldenHypothesis {
    tokens: Vec<u32>,
    score: f32,
}

#[test]
fn searches_end_as_in_transformers() {
    let text = include_str!("../../../../../tests/golden/sampling.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    assert!(!golden.beams.is_empty());
    for (number, expected) in golden.beams.iter().enumerate() {
        let mut request = request(expected.max_tokens);
        request.prompt = golden.table_prompt.clone();
        request.end_id = Some(golden.table_end_id);
        let GoldenSearch { width, sequences, length_penalty, early_stopping, .. } = *expected;
        let parameters =
            BeamSearch { width, sequences, length_penalty, early_stopping, diversity_rate: 0.0 };
        let found = search(&request, parameters, |tokens| {
            let last = tokens.last().copied().unwrap_or(0) as usize;
            golden.table[(last + tokens.len()) % golden.table.len()].clone()
        });
        assert_eq!(found.len(), expected.hypotheses.len());
        for (found, expected) in found.iter().zip(&expected.hypotheses) {
            assert_eq!(found.tokens, expected.tokens, "search {number}");
            let error = (found.score - expected.score).abs() / expected.score.abs();
            assert!(error < 1e-4, "search {number}: {}, not {}", found.score, expected.score);
        }
    }
}
