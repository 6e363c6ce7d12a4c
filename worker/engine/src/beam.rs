//! Beam search: the likeliest sequences, found side by side.
//!
//! A pure state machine: candidates in, live beams and finished hypotheses out. It keeps every
//! token that a live beam ever had in a tree, so that beams change places without copies.

mod tree;

use std::cmp::Ordering;

use shardrun_wire::{BeamSearch, FinishReason, Request};

use crate::sampling::Candidate;
use tree::{Node, Tree};

/// The state of one request's search.
///
/// The rules are those of `generate` in Hugging Face transformers. At each step the continuations of
/// all live beams are ranked by score: the beam's log probability, the token's, and `diversity_rate`
/// times the beam's number; of equals the lower beam comes first, then the lower token. Those that
/// end become hypotheses if they are among the best `width`, and of all hypotheses the best `width`
/// stay; those that end further down are dropped. The best `width` that don't end are the next live
/// beams, best first. At `max_tokens` every continuation ends.
#[derive(Debug)]
pub(crate) struct Beams {
    search: BeamSearch,
    end: End,
    tree: Tree,
    /// Tokens that each live beam has generated.
    length: u32,
    /// Best first.
    live: Vec<Beam>,
    /// Best first.
    finished: Vec<Ended>,
    /// What may follow; empty between steps.
    continuations: Vec<Continuation>,
}

/// How a live beam came about, in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BeamChoice {
    /// The live beam that it continues, by its number before the step.
    pub parent: u32,
    /// Its new token.
    pub token: u32,
    /// The token's log probability as the search adds it up, diversity included.
    pub log_prob: f32,
}

/// Whether the search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Each live beam needs candidates.
    Go,
    /// The hypotheses are final.
    Done,
}

/// A sequence that the search has found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hypothesis {
    /// What was generated, without the end token.
    pub tokens: Vec<u32>,
    /// Of each token, as the search added them up: after all changes to the logits, with diversity.
    pub log_probs: Vec<f32>,
    /// `cum_log_prob` over the generated length, the end token's included, to the power of the length
    /// penalty.
    pub score: f32,
    /// The sum of the log probabilities, the end token's included.
    pub cum_log_prob: f32,
    /// Why it ended.
    pub reason: FinishReason,
}

/// What ends a beam.
#[derive(Debug)]
struct End {
    end_id: Option<u32>,
    stop_words: Vec<Vec<u32>>,
    max_tokens: u32,
}

/// A live beam; without a node while it has generated nothing.
#[derive(Clone, Copy, Debug)]
struct Beam {
    last: Option<Node>,
    cum_log_prob: f64,
}

#[derive(Clone, Copy, Debug)]
struct Continuation {
    choice: BeamChoice,
    cum_log_prob: f64,
}

#[derive(Clone, Debug)]
struct Ended {
    /// Its tokens but the last.
    before: Option<Node>,
    /// The last token and its log probability, unless it isn't part of the output.
    last: Option<(u32, f32)>,
    score: f64,
    cum_log_prob: f64,
    reason: FinishReason,
}

impl Beams {
    /// A search with one live beam that has generated nothing. All memory it needs is made here.
    #[must_use]
    pub(crate) fn new(request: &Request, search: BeamSearch) -> Self {
        let width = search.width as usize;
        let end = End {
            end_id: request.end_id,
            stop_words: request.stop_words.clone(),
            max_tokens: request.max_tokens,
        };
        let mut live = Vec::with_capacity(2 * width);
        live.push(Beam { last: None, cum_log_prob: 0.0 });
        let mut beams = Self {
            search,
            end,
            tree: Tree::with_capacity(width * request.max_tokens as usize),
            length: 0,
            live,
            finished: Vec::with_capacity(width + 1),
            continuations: Vec::new(),
        };
        beams.continuations.reserve(width * beams.candidates());
        beams
    }

    /// How many candidates of each live beam a step looks at: enough for `width` that don't end.
    #[must_use]
    pub(crate) fn candidates(&self) -> usize {
        let width = self.search.width as usize;
        (2 * width).max(width + 1 + self.end.stop_words.len())
    }

    /// How many beams are live: 1 before the first step, then `width`, or fewer where too few
    /// tokens can be chosen.
    #[must_use]
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Takes the candidates of each live beam, best first: [`Beams::candidates`] of them, or all there
    /// are. `choices` becomes the next live beams, best first: empty when the search is done. A beam
    /// without any candidate ends as it is: its guide allows nothing more.
    pub(crate) fn step(
        &mut self,
        candidates: &[impl AsRef<[Candidate]>],
        choices: &mut Vec<BeamChoice>,
    ) -> Progress {
        choices.clear();
        debug_assert_eq!(candidates.len(), self.live.len());
        self.collect(candidates);
        self.continuations.sort_unstable_by(by_rank);
        self.length += 1;
        self.divide(choices);
        self.advance(choices);
        self.continuations.clear();
        if self.is_done() {
            self.live.clear();
            choices.clear();
            return Progress::Done;
        }
        Progress::Go
    }

    /// The hypotheses so far, best first: after the end as many as the request wants, or fewer, but
    /// at least one, where too few tokens could be chosen.
    #[must_use]
    pub(crate) fn results(&self) -> Vec<Hypothesis> {
        let wanted = self.finished.iter().take(self.search.sequences as usize);
        wanted.map(|ended| self.hypothesis(ended)).collect()
    }

    /// Lists what may follow; beams that nothing may follow have ended.
    fn collect(&mut self, candidates: &[impl AsRef<[Candidate]>]) {
        for (number, candidates) in candidates.iter().enumerate().take(self.live.len()) {
            let beam = self.live[number];
            let candidates = candidates.as_ref();
            if candidates.is_empty() {
                self.finish(Ended {
                    before: beam.last,
                    last: None,
                    score: self.score(beam.cum_log_prob, self.length),
                    cum_log_prob: beam.cum_log_prob,
                    reason: FinishReason::EndId,
                });
            }
            let bonus = self.search.diversity_rate * number as f32;
            self.continuations.extend(candidates.iter().map(|candidate| {
                let log_prob = candidate.log_prob + bonus;
                Continuation {
                    choice: BeamChoice { parent: number as u32, token: candidate.token, log_prob },
                    cum_log_prob: beam.cum_log_prob + f64::from(log_prob),
                }
            }));
        }
    }

    /// Parts the ranked continuations in those that have ended and those that go on.
    fn divide(&mut self, choices: &mut Vec<BeamChoice>) {
        let width = self.search.width as usize;
        for rank in 0..self.continuations.len() {
            if choices.len() == width {
                break;
            }
            let Continuation { choice, cum_log_prob } = self.continuations[rank];
            let BeamChoice { token, log_prob, .. } = choice;
            let before = self.live[choice.parent as usize].last;
            let Some(reason) = self.end.reason(&self.tree, before, token, self.length) else {
                choices.push(choice);
                continue;
            };
            if rank < width {
                let is_output = reason != FinishReason::EndId;
                let score = self.score(cum_log_prob, self.length);
                let last = is_output.then_some((token, log_prob));
                self.finish(Ended { before, last, score, cum_log_prob, reason });
            }
        }
    }

    /// Makes the choices the live beams.
    fn advance(&mut self, choices: &[BeamChoice]) {
        let parents = self.live.len();
        for choice in choices {
            let parent = self.live[choice.parent as usize];
            self.live.push(Beam {
                last: Some(self.tree.push(parent.last, choice.token, choice.log_prob)),
                cum_log_prob: parent.cum_log_prob + f64::from(choice.log_prob),
            });
        }
        self.live.drain(..parents);
    }

    fn finish(&mut self, ended: Ended) {
        let place = self.finished.partition_point(|other| other.score >= ended.score);
        self.finished.insert(place, ended);
        self.finished.truncate(self.search.width as usize);
    }

    fn is_done(&self) -> bool {
        let Some(best) = self.live.first() else { return true };
        if self.finished.len() < self.search.width as usize {
            return false;
        }
        let now = self.score(best.cum_log_prob, self.length);
        let attainable = match self.search.early_stopping {
            1 => return true,
            0 => now,
            _ => now.max(self.score(best.cum_log_prob, self.end.max_tokens)),
        };
        self.finished.last().is_some_and(|worst| attainable <= worst.score)
    }

    fn score(&self, cum_log_prob: f64, length: u32) -> f64 {
        cum_log_prob / f64::from(length.max(1)).powf(f64::from(self.search.length_penalty))
    }

    fn hypothesis(&self, ended: &Ended) -> Hypothesis {
        let mut steps: Vec<(u32, f32)> = self.tree.path(ended.before).collect();
        steps.reverse();
        steps.extend(ended.last);
        let (tokens, log_probs) = steps.into_iter().unzip();
        Hypothesis {
            tokens,
            log_probs,
            score: ended.score as f32,
            cum_log_prob: ended.cum_log_prob as f32,
            reason: ended.reason.clone(),
        }
    }
}

impl End {
    /// Why a beam ends with `token` after `before`, its `length`-th token.
    fn reason(
        &self,
        tree: &Tree,
        before: Option<Node>,
        token: u32,
        length: u32,
    ) -> Option<FinishReason> {
        let is_stop_word = |word: &Vec<u32>| match word.split_last() {
            Some((&last, rest)) => last == token && tree.ends_with(before, rest),
            None => false,
        };
        if self.end_id == Some(token) {
            Some(FinishReason::EndId)
        } else if self.stop_words.iter().any(is_stop_word) {
            Some(FinishReason::StopWords)
        } else {
            (length >= self.max_tokens).then_some(FinishReason::Length)
        }
    }
}

/// Best first; of equals the lower beam, then the lower token.
fn by_rank(a: &Continuation, b: &Continuation) -> Ordering {
    let score = b.cum_log_prob.total_cmp(&a.cum_log_prob);
    score.then(a.choice.parent.cmp(&b.choice.parent)).then(a.choice.token.cmp(&b.choice.token))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
