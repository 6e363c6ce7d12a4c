//! What came of a plan: new tokens, ends, forks.

use shardrun_wire::{BeamScore, FinishReason};

use super::{Draw, Event, Scheduler, SequenceRef};
use crate::beam::Progress;
use crate::sampling::{Candidate, Sampled};

/// What was drawn from the rows of a plan.
#[derive(Debug, Default)]
pub struct Drawn {
    /// One for each [`Draw::Sample`]. A request with a `None` must be ended before the next plan.
    pub samples: Vec<Option<Sampled>>,
    /// For each beam of each [`Draw::Beam`], its likeliest next tokens, best first; what lies beyond
    /// `beams` is memory.
    candidates: Vec<Vec<Candidate>>,
    beams: usize,
}

impl Drawn {
    /// Forgets all and keeps the memory.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.beams = 0;
    }

    /// Where the next beam's candidates go.
    pub fn next_beam(&mut self) -> &mut Vec<Candidate> {
        self.beams += 1;
        if self.candidates.len() < self.beams {
            self.candidates.push(Vec::new());
        }
        &mut self.candidates[self.beams - 1]
    }
}

impl Scheduler {
    /// Takes in what the plan brought.
    ///
    /// # Panics
    /// If more or less was drawn than [`Scheduler::draws`] asks for.
    pub fn complete(&mut self, drawn: &Drawn, events: &mut Vec<Event>) {
        for at in 0..self.planned.len() {
            let planned = self.planned[at];
            let group = &mut self.running[planned.group];
            let sequence = &mut group.sequences[planned.sequence];
            sequence.computed += planned.tokens;
            let in_prompt = sequence.computed.min(group.request.prompt.len());
            if planned.sequence == group.trunk() {
                group.context_rows = group.context_rows.max(in_prompt);
            }
            self.cache.commit(group, planned.sequence);
            if !group.is_forked() {
                self.cache.fork(group);
            }
        }
        let (mut samples, mut beams) = (drawn.samples.iter(), &drawn.candidates[..drawn.beams]);
        for at in 0..self.draws.len() {
            match self.draws[at] {
                Draw::Context { .. } => {}
                Draw::Sample { of, .. } => {
                    let sampled = samples.next().expect("one for each draw");
                    if let Some(sampled) = sampled {
                        self.take_in(of, sampled, events);
                    }
                }
                Draw::Beam { of, beams: live, .. } => {
                    let (own, rest) = beams.split_at(live);
                    beams = rest;
                    self.step_beams(of.group, own, events);
                }
            }
        }
        assert!(samples.next().is_none() && beams.is_empty(), "nothing beside the draws");
        self.retire();
    }

    /// Appends a sampled token, unless it ends its sequence.
    fn take_in(&mut self, of: SequenceRef, sampled: &Sampled, events: &mut Vec<Event>) {
        let group = &mut self.running[of.group];
        let request = &group.request;
        let at = of.sequence as usize;
        if request.end_id == Some(sampled.token) {
            return group.finish(at, FinishReason::EndId, None, events);
        }
        let sequence = &mut group.sequences[at];
        sequence.tokens.push(sampled.token);
        let generated = &sequence.tokens[request.prompt.len()..];
        let stopped = request.stop_words.iter().any(|word| generated.ends_with(word));
        let full = generated.len() == request.max_tokens as usize;
        events.push(Event::Token {
            id: request.id,
            sequence: of.sequence,
            token: sampled.token,
            log_prob: sampled.log_prob,
        });
        group.decoded_in += u64::from(at == group.trunk());
        if stopped {
            group.finish(at, FinishReason::StopWords, None, events);
        } else if full {
            group.finish(at, FinishReason::Length, None, events);
        }
    }

    /// Goes a step on with a beam search.
    fn step_beams(&mut self, place: usize, candidates: &[Vec<Candidate>], events: &mut Vec<Event>) {
        let group = &mut self.running[place];
        let beams = group.beams.as_mut().expect("a beam search has beams");
        debug_assert_eq!(candidates.len(), beams.live());
        if beams.step(candidates, &mut self.choices) == Progress::Go {
            group.decoded_in += 1;
            return self.cache.follow(group, &self.choices);
        }
        let results = beams.results();
        for at in 0..group.request.search.sequences() as usize {
            // Too few tokens could be chosen for as many as were wanted: the rest is empty.
            let Some(result) = results.get(at) else {
                group.finish(at, FinishReason::EndId, None, events);
                continue;
            };
            let (id, sequence) = (group.request.id, at as u32);
            let tokens = result.tokens.iter().zip(&result.log_probs);
            events.extend(tokens.map(|(&token, &log_prob)| Event::Token {
                id,
                sequence,
                token,
                log_prob,
            }));
            let score = BeamScore { score: result.score, cum_log_prob: result.cum_log_prob };
            group.finish(at, result.reason.clone(), Some(score), events);
        }
    }

    /// Gives back what ended, and what has left a window.
    fn retire(&mut self) {
        for at in 0..self.planned.len() {
            let planned = self.planned[at];
            self.cache.leave_window(&mut self.running[planned.group], planned.sequence);
        }
        self.planned.clear();
        self.draws.clear();
        for place in (0..self.running.len()).rev() {
            let group = &mut self.running[place];
            if group.is_over() {
                let mut group = self.running.remove(place);
                group.give_back(&mut self.cache.kv, &mut self.free_slots);
            } else {
                // A search that has too few beams may have more again, and keeps their slots.
                let searches = group.beams.is_some();
                for sequence in group.sequences.iter_mut().filter(|sequence| sequence.finished) {
                    sequence.release(&mut self.cache.kv);
                    self.free_slots.extend(sequence.slot.take_if(|_| !searches));
                }
            }
        }
    }
}
