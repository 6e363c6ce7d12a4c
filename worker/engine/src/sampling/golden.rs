//! The rules against transformers' own, as `tests/golden/make_sampling_golden.py` recorded them.

use serde::Deserialize;
use shardrun_wire::{Request, RequestId, Sampling};

use super::process::Processor;
use super::sampler::{SequenceView, tests::kept};

#[derive(Deserialize)]
struct Golden {
    end_id: u32,
    rows: Vec<GoldenRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenRow {
    tokens: Vec<u32>,
    prompt: usize,
    logits: Vec<f32>,
    /// Temperature included; `None` for what is banned.
    processed: Vec<Option<f32>>,
    kept: Vec<u32>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    no_repeat_ngram_size: Option<u32>,
    min_tokens: Option<u32>,
    #[serde(default)]
    bad_words: Vec<Vec<u32>>,
}

impl GoldenRow {
    fn request(&self, end_id: u32) -> Request {
        let mut request = Request::new(RequestId(1), self.tokens[..self.prompt].to_vec(), 100);
        request.end_id = Some(end_id);
        request.bad_words = self.bad_words.clone();
        request.sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(0),
            min_tokens: self.min_tokens.unwrap_or(0),
            ..Sampling::GREEDY
        };
        request
    }
}

#[test]
fn logits_change_and_tokens_stay_as_in_transformers() {
    let text = include_str!("../../../../tests/golden/sampling.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    assert!(!golden.rows.is_empty());
    for (number, row) in golden.rows.iter().enumerate() {
        let request = row.request(golden.end_id);
        let tokens = &row.tokens;
        let view = SequenceView { request: &request, tokens, sequence: 0, mask: None };
        let mut processor = Processor::new(row.logits.len());
        let processed = processor.row(&row.logits, &view).unwrap().scores;
        for (token, (&score, expected)) in processed.iter().zip(&row.processed).enumerate() {
            let score = score / request.sampling.temperature;
            let expected = expected.unwrap_or(f32::NEG_INFINITY);
            let close = score == expected || (score - expected).abs() < 1e-4;
            assert!(close, "row {number}, token {token}: {score}, not {expected}");
        }
        assert_eq!(kept(&row.logits, &view), row.kept, "row {number}");
    }
}
