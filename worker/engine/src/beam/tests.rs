mod oracles;
mod rules;

use shardrun_wire::{RequestId, Sampling};

use super::*;
use crate::sampling::{Sampler, SequenceView};

const SEARCH: BeamSearch = BeamSearch {
    width: 2,
    sequences: 2,
    length_penalty: 0.0,
    diversity_rate: 0.0,
    early_stopping: 1,
};

fn request(max_tokens: u32) -> Request {
    let mut request = Request::new(RequestId(1), vec![0], max_tokens);
    request.sampling = Sampling { top_k: 0, ..Sampling::GREEDY };
    request
}

fn candidates(list: &[(u32, f32)]) -> Vec<Candidate> {
    list.iter().map(|&(token, log_prob)| Candidate { token, log_prob }).collect()
}

/// Parents and tokens of the next live beams.
fn step(beams: &mut Beams, lists: &[&[(u32, f32)]]) -> (Progress, Vec<(u32, u32)>) {
    let lists: Vec<_> = lists.iter().map(|list| candidates(list)).collect();
    let mut choices = Vec::new();
    let progress = beams.step(&lists, &mut choices);
    (progress, choices.iter().map(|choice| (choice.parent, choice.token)).collect())
}

/// Runs a search over logits that depend on the tokens.
fn search(
    request: &Request,
    search: BeamSearch,
    logits: impl Fn(&[u32]) -> Vec<f32>,
) -> Vec<Hypothesis> {
    let mut beams = Beams::new(request, search);
    let mut live = vec![request.prompt.clone()];
    let mut choices = Vec::new();
    loop {
        let lists: Vec<Vec<Candidate>> = live
            .iter()
            .map(|tokens| {
                let logits = logits(tokens);
                let mut list = Vec::new();
                let view = SequenceView { request, tokens, sequence: 0, mask: None };
                Sampler::new(logits.len()).best(&logits, &view, beams.candidates(), &mut list);
                list
            })
            .collect();
        if beams.step(&lists, &mut choices) == Progress::Done {
            return beams.results();
        }
        let next = choices.iter().map(|choice| {
            let mut tokens = live[choice.parent as usize].clone();
            tokens.push(choice.token);
            tokens
        });
        live = next.collect();
        assert_eq!(live.len(), beams.live());
    }
}
