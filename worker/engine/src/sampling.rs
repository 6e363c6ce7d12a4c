//! Choosing the next token from a row of logits.

use std::cmp::Ordering;

use shardrun_wire::Sampling;

use crate::random::uniform;

/// Candidates that are sorted first; the nucleus of most rows is smaller.
const FEW: usize = 256;

/// Chooses tokens; keeps its memory from one row to the next.
#[derive(Debug, Default)]
pub struct Sampler {
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Sampler {
    /// The token at `position` of its sequence, for logits `[vocabulary]`: a pure function of
    /// what it is given. Logits are divided by the temperature; the `top_k` most likely tokens
    /// stay, and of those the fewest whose probabilities sum to `top_p` (Holtzman et al., 2020);
    /// one of them is drawn.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn sample(&mut self, logits: &[f32], sampling: &Sampling, position: u32) -> u32 {
        let best = most_likely(logits);
        if sampling.greedy() {
            return best;
        }
        let highest = f64::from(logits[best as usize]);
        let temperature = f64::from(sampling.temperature);
        let weight = |candidate: &Candidate| {
            let weight = ((f64::from(candidate.logit) - highest) / temperature).exp();
            if weight.is_nan() { 0.0 } else { weight }
        };
        self.candidates.clear();
        let all = logits.iter().zip(0..);
        self.candidates.extend(all.map(|(&logit, token)| Candidate { token, logit }));
        if sampling.top_k > 0 {
            self.keep_best(sampling.top_k as usize);
        }
        if sampling.top_p < 1.0 {
            self.keep_nucleus(f64::from(sampling.top_p), weight);
        }
        let total: f64 = self.candidates.iter().map(weight).sum();
        let mut left = uniform(sampling.seed, position) * total;
        for candidate in &self.candidates {
            left -= weight(candidate);
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding may leave a trace beyond the last weight.
        self.candidates.iter().rev().find(|last| weight(last) > 0.0).map_or(best, |last| last.token)
    }

    fn keep_best(&mut self, count: usize) {
        if count < self.candidates.len() {
            self.candidates.select_nth_unstable_by(count - 1, by_rank);
            self.candidates.truncate(count);
        }
    }

    /// Keeps the shortest run of most likely candidates that has `top_p` of the whole weight.
    fn keep_nucleus(&mut self, top_p: f64, weight: impl Fn(&Candidate) -> f64) {
        let enough = top_p * self.candidates.iter().map(&weight).sum::<f64>();
        let mut sorted = FEW;
        loop {
            sorted = sorted.min(self.candidates.len());
            if sorted < self.candidates.len() {
                self.candidates.select_nth_unstable_by(sorted - 1, by_rank);
            }
            self.candidates[..sorted].sort_unstable_by(by_rank);
            let mut sum = 0.0;
            let reached = self.candidates[..sorted].iter().position(|candidate| {
                sum += weight(candidate);
                sum >= enough
            });
            if let Some(last) = reached {
                self.candidates.truncate(last + 1);
                return;
            }
            if sorted == self.candidates.len() {
                return;
            }
            sorted *= 8;
        }
    }
}

/// The id of the highest logit, the lowest on a tie.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = token;
        }
    }
    best as u32
}

/// Most likely first, the lower id on a tie. NaN is least likely.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    let key = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { logit };
    key(b.logit).total_cmp(&key(a.logit)).then(a.token.cmp(&b.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(logits: &[f32], sampling: Sampling) -> Vec<u32> {
        let mut sampler = Sampler::default();
        (0..4000).map(|position| sampler.sample(logits, &sampling, position)).collect()
    }

    fn share(tokens: &[u32], token: u32) -> f64 {
        tokens.iter().filter(|&&t| t == token).count() as f64 / tokens.len() as f64
    }

    const ALL: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 3 };

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        let logits = [0.5, 2.0, f32::NAN, 2.0];
        assert_eq!(Sampler::default().sample(&logits, &Sampling::GREEDY, 0), 1);
        assert_eq!(Sampler::default().sample(&[f32::NAN, 1.0], &Sampling::GREEDY, 0), 1);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
        let tokens = draw(&logits, ALL);
        for (token, probability) in [(0, 0.1), (1, 0.6), (2, 0.3)] {
            assert!((share(&tokens, token) - probability).abs() < 0.03);
        }
        let sharper = draw(&logits, Sampling { temperature: 0.5, ..ALL });
        assert!((share(&sharper, 1) - 0.36 / 0.46).abs() < 0.03);
    }

    #[test]
    fn top_k_and_top_p_leave_the_unlikely_out() {
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
        assert_eq!(share(&draw(&logits, Sampling { top_k: 2, ..ALL }), 0), 0.0);
        assert_eq!(share(&draw(&logits, Sampling { top_p: 0.5, ..ALL }), 1), 1.0);
        assert_eq!(share(&draw(&logits, Sampling { top_p: 0.85, ..ALL }), 0), 0.0);
        assert!(share(&draw(&logits, Sampling { top_p: 0.95, ..ALL }), 0) > 0.05);
    }

    #[test]
    fn a_flat_nucleus_wider_than_the_first_sort_is_found() {
        let logits = vec![0.0; 3000];
        let tokens = draw(&logits, Sampling { top_p: 0.5, ..ALL });
        assert!(tokens.iter().all(|&token| token < 1500), "the lower ids are the nucleus of a tie");
        assert!(tokens.iter().any(|&token| token > 1000));
    }

    #[test]
    fn the_seed_and_the_position_decide() {
        let logits: Vec<f32> = (0..500).map(|i| (i % 37) as f32 * 0.1).collect();
        let sampling = Sampling { temperature: 0.9, top_k: 80, top_p: 0.9, seed: 11 };
        assert_eq!(draw(&logits, sampling), draw(&logits, sampling));
        assert_ne!(draw(&logits, sampling), draw(&logits, Sampling { seed: 12, ..sampling }));
    }

    #[test]
    fn rows_without_any_number_still_give_a_token() {
        let token = Sampler::default().sample(&[f32::NAN; 3], &Sampling { top_p: 0.5, ..ALL }, 0);
        assert!(token < 3);
    }
}
