//! Speed of choosing a token from one row of logits:
//!
//!     cargo bench -p shardrun-engine --bench sampling [-- VOCABULARY...]
//!
//! Logits are normally distributed with a standard deviation of 3: less peaked than a language
//! model's. Times are for one row; the best is what an idle machine would show.

use std::{env, hint::black_box, time::Instant};

use shardrun_engine::{Sampler, SequenceView};
use shardrun_wire::{Request, RequestId, Sampling};

const ROWS: usize = 16;
const ROUNDS: usize = 200;

fn main() {
    // Cargo passes `--bench` to a benchmark.
    let sizes: Vec<usize> = env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    for &size in if sizes.is_empty() { &[49152][..] } else { &sizes } {
        println!("vocabulary {size}: microseconds a row, median and best of {ROUNDS} rounds");
        for (name, request, generated) in requests() {
            measure(name, &request, generated, size, None);
        }
        let mask: Vec<u32> =
            (0..size as u32 / 32 + 1).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
        let greedy = Request::new(RequestId(1), vec![1; 16], 4096);
        measure("greedy, half of it masked", &greedy, 100, size, Some(&mask));
    }
}

/// What is measured: a name, a request, and how many tokens it has generated.
fn requests() -> Vec<(&'static str, Request, usize)> {
    let new = || Request::new(RequestId(1), vec![1; 16], 4096);
    let sampled = |sampling: Sampling| {
        let mut request = new();
        request.sampling = Sampling { top_k: 0, ..sampling };
        request
    };
    let mut log_probs = new();
    log_probs.wanted.log_probs = true;
    let mut top_k_top_p = new();
    top_k_top_p.sampling = Sampling { top_k: 50, top_p: 0.9, ..Sampling::GREEDY };
    let mut penalties = top_k_top_p.clone();
    penalties.sampling.repetition_penalty = 1.1;
    penalties.sampling.presence_penalty = 0.2;
    penalties.sampling.frequency_penalty = 0.1;
    penalties.sampling.no_repeat_ngram_size = 3;
    penalties.bad_words = vec![vec![5], vec![7, 8]];
    let mut not_yet = new();
    not_yet.sampling.min_tokens = 4096;
    not_yet.end_id = Some(2);
    vec![
        ("greedy", new(), 100),
        ("greedy, before min_tokens", not_yet, 100),
        ("greedy, log probabilities", log_probs, 100),
        ("top-k 50, top-p 0.9", top_k_top_p, 100),
        ("temperature alone", sampled(Sampling::GREEDY), 100),
        ("top-p 0.9", sampled(Sampling { top_p: 0.9, ..Sampling::GREEDY }), 100),
        (
            "top-p 0.9, nearly flat",
            sampled(Sampling { top_p: 0.9, temperature: 30.0, ..Sampling::GREEDY }),
            100,
        ),
        ("min-p 0.05", sampled(Sampling { min_p: 0.05, ..Sampling::GREEDY }), 100),
        ("all penalties after 2000 tokens, top-k 50, top-p 0.9", penalties, 2000),
    ]
}

fn measure(
    name: &str,
    request: &Request,
    generated: usize,
    vocab_size: usize,
    mask: Option<&[u32]>,
) {
    let rows: Vec<f32> = normal(ROWS * vocab_size);
    let mut tokens = request.prompt.clone();
    tokens.extend((0..generated).map(|i| (i * i * 31 % vocab_size) as u32));
    let mut sampler = Sampler::new(vocab_size);
    let mut round = || {
        let start = Instant::now();
        for (sequence, logits) in rows.chunks(vocab_size).enumerate() {
            let sequence = sequence as u32;
            let view = SequenceView { request, tokens: &tokens, sequence, mask };
            black_box(sampler.sample(black_box(logits), &view));
        }
        start.elapsed().as_secs_f64() * 1e6 / ROWS as f64
    };
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    println!("  {:8.1} {:8.1}  {name}", times[ROUNDS / 2], times[0]);
}

/// Sums of twelve uniform numbers.
fn normal(len: usize) -> Vec<f32> {
    let mut bits = 1u32;
    let mut uniform = || {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (bits >> 8) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| 3.0 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
}
