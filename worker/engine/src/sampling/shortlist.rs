//! The tokens of a row that stay when only the likeliest may.

use std::cmp::Ordering;

use super::scan::highest;
use super::weights::Weights;

/// Scores that are looked at together.
const BLOCK: usize = 64;

/// A token and its score in one number: the greater, the likelier; of equals the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked(u64);

impl Ranked {
    pub(super) fn new(token: u32, score: f32) -> Self {
        // Adding zero makes one of the two zeros. Numbers then compare as their bits do, negative
        // ones the other way round.
        let bits = (score + 0.0).to_bits();
        let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Self(u64::from(ordered) << 32 | u64::from(!token))
    }

    pub(super) fn token(self) -> u32 {
        !(self.0 as u32)
    }

    pub(super) fn score(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }
}

/// Tokens that stay, none twice; keeps its memory from one row to the next.
#[derive(Debug)]
pub(super) struct Shortlist {
    ranked: Vec<Ranked>,
}

impl Shortlist {
    pub(super) fn new(vocab_size: usize) -> Self {
        Self { ranked: Vec::with_capacity(vocab_size) }
    }

    /// Tokens with their scores.
    pub(super) fn tokens(&self) -> &[Ranked] {
        &self.ranked
    }

    /// Takes the `count` highest scores of a row, in any order; the lower id on a tie.
    pub(super) fn take_top(&mut self, scores: &[f32], count: usize) {
        self.ranked.clear();
        if count == 0 {
            return;
        }
        // What doesn't exceed this is outranked by `count` others, all of lower id.
        let mut floor = f32::NEG_INFINITY;
        let full = count.saturating_mul(2).max(BLOCK);
        for (block, first) in scores.chunks(BLOCK).zip((0u32..).step_by(BLOCK)) {
            if highest(block) <= floor {
                continue;
            }
            for (&score, token) in block.iter().zip(first..) {
                if score > floor {
                    self.ranked.push(Ranked::new(token, score));
                    if self.ranked.len() == full {
                        self.cut(count);
                        floor = self.ranked[count - 1].score();
                    }
                }
            }
        }
        self.cut(count);
    }

    /// Takes every score from `floor` on, in order of ids.
    pub(super) fn take_from(&mut self, scores: &[f32], floor: f32) {
        self.ranked.clear();
        for (block, first) in scores.chunks(BLOCK).zip((0u32..).step_by(BLOCK)) {
            if highest(block) >= floor {
                let high = block.iter().zip(first..).filter(|&(&score, _)| score >= floor);
                self.ranked.extend(high.map(|(&score, token)| Ranked::new(token, score)));
            }
        }
    }

    /// Drops what weighs less than `least`.
    pub(super) fn keep_heavy(&mut self, weights: Weights, least: f32) {
        self.ranked.retain(|ranked| weights.of(ranked.score()) >= least);
    }

    /// Keeps the fewest of the likeliest tokens that together weigh `enough`, in any order.
    pub(super) fn keep_nucleus(&mut self, weights: Weights, enough: f64) {
        // The first `kept` weigh too little, the first `end` are enough or all there are.
        let (mut kept, mut end) = (0, self.ranked.len());
        let mut missing = enough;
        while end - kept > 1 {
            let middle = kept + (end - kept) / 2;
            self.ranked[kept..end].select_nth_unstable_by(middle - kept, by_rank);
            let weight = weight_of(&self.ranked[kept..middle], weights);
            if weight >= missing {
                end = middle;
            } else {
                missing -= weight;
                kept = middle;
            }
        }
        self.ranked.truncate(end);
    }

    /// Orders by rank: most likely first, the lower id on a tie.
    pub(super) fn sort_by_rank(&mut self) {
        self.ranked.sort_unstable_by(by_rank);
    }

    /// Orders by id.
    pub(super) fn sort_by_token(&mut self) {
        self.ranked.sort_unstable_by_key(|ranked| ranked.token());
    }

    fn cut(&mut self, count: usize) {
        if count < self.ranked.len() {
            self.ranked.select_nth_unstable_by(count - 1, by_rank);
            self.ranked.truncate(count);
        }
    }
}

/// What tokens weigh together.
pub(super) fn weight_of(ranked: &[Ranked], weights: Weights) -> f64 {
    let sums = ranked.chunks(BLOCK).map(|block| {
        let mut scores = [f32::NEG_INFINITY; BLOCK];
        for (score, ranked) in scores.iter_mut().zip(block) {
            *score = ranked.score();
        }
        weights.sum(&scores[..block.len()])
    });
    sums.sum()
}

/// Most likely first, the lower id on a tie.
fn by_rank(a: &Ranked, b: &Ranked) -> Ordering {
    b.cmp(a)
}
