mod best;
mod changes;
mod choices;
mod properties;

use shardrun_wire::RequestId;

use super::*;

const ALL: Sampling = Sampling { top_k: 0, seed: 3, ..Sampling::GREEDY };
const NONE: f32 = f32::NEG_INFINITY;

/// The tokens that one is drawn from, in order of their ids.
pub(in crate::sampling) fn kept(logits: &[f32], view: &SequenceView<'_>) -> Vec<u32> {
    let mut sampler = Sampler::new(logits.len());
    let row = sampler.processor.row(logits, view).unwrap();
    let weights = Weights::new(row.best.score, view.request.sampling.temperature);
    let Some(limits) = Limits::of(view, logits.len()) else {
        let chosen = (0u32..).zip(row.scores).filter(|&(_, &score)| score > NONE);
        return chosen.map(|(token, _)| token).collect();
    };
    shorten(&mut sampler.shortlist, row.scores, weights, limits);
    sampler.shortlist.sort_by_token();
    sampler.shortlist.tokens().iter().map(|ranked| ranked.token()).collect()
}

fn request(sampling: Sampling) -> Request {
    let mut request = Request::new(RequestId(1), vec![0], 5000);
    request.sampling = sampling;
    request
}

fn view<'a>(request: &'a Request, tokens: &'a [u32]) -> SequenceView<'a> {
    SequenceView { request, tokens, sequence: 0, mask: None }
}

fn sample(logits: &[f32], view: &SequenceView<'_>) -> u32 {
    Sampler::new(logits.len()).sample(logits, view).token
}

/// Tokens for the same logits at 4000 positions.
fn draw_many(logits: &[f32], sampling: Sampling) -> Vec<u32> {
    let request = request(sampling);
    let tokens = vec![0; 4000];
    let mut sampler = Sampler::new(logits.len());
    (1..=tokens.len())
        .map(|len| sampler.sample(logits, &view(&request, &tokens[..len])).token)
        .collect()
}

fn share(tokens: &[u32], token: u32) -> f64 {
    tokens.iter().filter(|&&other| other == token).count() as f64 / tokens.len() as f64
}

/// Scores after processing.
fn scores(logits: &[f32], view: &SequenceView<'_>) -> Vec<f32> {
    Processor::new(logits.len()).row(logits, view).unwrap().scores.to_vec()
}
