//! From logits to a token, or to the candidates of a beam search.

use shardrun_wire::{Request, Sampling};

use super::draw;
use super::process::{Processor, bans_nothing, moves_nothing};
use super::shortlist::{Shortlist, weight_of};
use super::weights::{Weights, log_prob};
use crate::random::uniform;

/// What a choice depends on beside the logits.
#[derive(Clone, Copy, Debug)]
pub struct SequenceView<'a> {
    /// The sequence's request.
    pub request: &'a Request,
    /// The prompt, then what was generated so far.
    pub tokens: &'a [u32],
    /// Which of the request's sequences this is; each has random numbers of its own.
    pub sequence: u32,
    /// What a guide allows: token `t` if bit `t % 32` of word `t / 32` is set; no token beyond.
    pub mask: Option<&'a [u32]>,
}

/// A token that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// The natural logarithm of its probability as the model gave it, before anything changed
    /// the logits; negative infinity where the model gave no number, 0 unless the request wants it.
    pub log_prob: f32,
}

/// A token that may follow a beam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub token: u32,
    /// The natural logarithm of its probability, a number, after all changes to the logits.
    pub log_prob: f32,
}

/// Chooses tokens; what it keeps from one row to the next is memory only, all of it made at first.
#[derive(Debug)]
pub struct Sampler {
    processor: Processor,
    shortlist: Shortlist,
}

impl SequenceView<'_> {
    pub(super) fn generated(&self) -> &[u32] {
        self.tokens.get(self.request.prompt.len()..).unwrap_or_default()
    }

    /// Whether the next token is the one with the greatest logit, the lowest of equal ones, whatever the
    /// logits are, and nothing but that token is wanted of them; a mask apart.
    pub(crate) fn takes_best(&self) -> bool {
        let wanted = self.request.wanted.log_probs;
        self.request.sampling.greedy() && !wanted && moves_nothing(self) && bans_nothing(self)
    }

    /// Whether the end token is banned by `min_tokens`.
    pub(super) fn end_is_too_early(&self) -> bool {
        self.request.end_id.is_some()
            && self.generated().len() < self.request.sampling.min_tokens as usize
    }
}

impl Sampler {
    /// For rows of `vocab_size` logits.
    #[must_use]
    pub fn new(vocab_size: usize) -> Self {
        Self { processor: Processor::new(vocab_size), shortlist: Shortlist::new(vocab_size) }
    }

    /// The next token of a sequence, for logits `[vocabulary]`; NaN counts as negative infinity.
    ///
    /// Logits change in the order that [`Sampling`] gives. Presence and frequency are those in the
    /// output; repetition, n-grams and bad words look at prompt and output. Bad words of one token,
    /// the end token included, are always banned. Of what is left, the `top_k` likeliest tokens stay
    /// (the lower ids of equals); of those the fewest that have `top_p` of their weight (Holtzman et
    /// al., 2020); of those the ones with `min_p` of the likeliest one's probability. One of them is
    /// drawn: with the tokens in order of their ids, the first at which the sum of weights exceeds the
    /// random number's share of the whole.
    ///
    /// The token is always one that the mask has. Where all else allows none of them, the mask alone
    /// holds. A mask without any token gives the end token, or 0 if the request has none: such a
    /// sequence has to end.
    pub fn sample(&mut self, logits: &[f32], view: &SequenceView<'_>) -> Sampled {
        let token = self.choose(logits, view);
        let wanted = view.request.wanted.log_probs;
        Sampled { token, log_prob: if wanted { log_prob(logits, token) } else { 0.0 } }
    }

    /// The `count` most likely tokens, most likely first, the lower id on a tie: fewer if fewer can
    /// be chosen, none if the mask has none. Everything but top-k, top-p and min-p has changed their
    /// log probabilities.
    pub fn best(
        &mut self,
        logits: &[f32],
        view: &SequenceView<'_>,
        count: usize,
        into: &mut Vec<Candidate>,
    ) {
        into.clear();
        let Some(row) = self.processor.row(logits, view) else { return };
        let weights = Weights::new(row.best.score, view.request.sampling.temperature);
        let total = weights.sum(row.scores);
        self.shortlist.take_top(row.scores, count);
        self.shortlist.sort_by_rank();
        into.extend(self.shortlist.tokens().iter().map(|ranked| Candidate {
            token: ranked.token(),
            log_prob: weights.log_prob(ranked.score(), total),
        }));
    }

    fn choose(&mut self, logits: &[f32], view: &SequenceView<'_>) -> u32 {
        let sampling = &view.request.sampling;
        if sampling.greedy()
            && let Some(best) = Processor::best_as_it_is(logits, view)
        {
            return best.token;
        }
        let Some(row) = self.processor.row(logits, view) else {
            return view.request.end_id.unwrap_or(0);
        };
        if sampling.greedy() {
            return row.best.token;
        }
        let weights = Weights::new(row.best.score, sampling.temperature);
        let share = uniform(sampling.seed, view.sequence, view.tokens.len() as u32);
        let drawn = match Limits::of(view, row.scores.len()) {
            None => draw::from_row(row.scores, weights, share),
            Some(limits) => {
                shorten(&mut self.shortlist, row.scores, weights, limits);
                self.shortlist.sort_by_token();
                draw::from_list(self.shortlist.tokens(), weights, share)
            }
        };
        drawn.unwrap_or(row.best.token)
    }
}

/// How much of a row stays.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Below the vocabulary's size.
    top_k: Option<usize>,
    /// Below 1.
    top_p: Option<f64>,
    min_p: f32,
}

impl Limits {
    /// `None` if all of it does.
    fn of(view: &SequenceView<'_>, vocab_size: usize) -> Option<Self> {
        let sampling = &view.request.sampling;
        let top_k = Some(sampling.top_k as usize).filter(|k| (1..vocab_size).contains(k));
        let top_p = Some(current_top_p(sampling, view.generated())).filter(|&p| p < 1.0);
        let min_p = sampling.min_p;
        let any = top_k.is_some() || top_p.is_some() || min_p > 0.0;
        any.then_some(Self { top_k, top_p, min_p })
    }
}

/// Takes the tokens that one is drawn from.
fn shorten(list: &mut Shortlist, scores: &[f32], weights: Weights, limits: Limits) {
    match (limits.top_k, limits.top_p) {
        (Some(count), None) => list.take_top(scores, count),
        (Some(count), Some(top_p)) => {
            list.take_top(scores, count);
            list.keep_nucleus(weights, top_p * weight_of(list.tokens(), weights));
        }
        (None, Some(top_p)) => {
            let total = weights.sum(scores);
            // All that weigh less can't have more than what is beyond the nucleus.
            let least = (1.0 - top_p) * total / scores.len() as f64;
            list.take_from(scores, weights.floor(least));
            list.keep_nucleus(weights, top_p * total);
        }
        (None, None) => list.take_from(scores, weights.floor(f64::from(limits.min_p))),
    }
    if limits.min_p > 0.0 {
        list.keep_heavy(weights, limits.min_p);
    }
}

/// `top_p` as it is after these tokens.
fn current_top_p(sampling: &Sampling, generated: &[u32]) -> f64 {
    let decay = f64::from(sampling.top_p_decay);
    let reset = |token: &u32| Some(*token) == sampling.top_p_reset_id;
    let since_reset = if decay == 1.0 {
        0
    } else {
        generated.iter().rev().position(reset).unwrap_or(generated.len())
    };
    let decayed = f64::from(sampling.top_p) * decay.powi(since_reset as i32);
    decayed.max(f64::from(sampling.top_p_min))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests;
