//! One of several tokens by their weights: the first, in order of their ids, at which the weights so
//! far exceed a random share of them all.

use super::shortlist::{Ranked, weight_of};
use super::weights::Weights;

/// Weights that are added up before it is known whether the drawn one is among them.
const BLOCK: usize = 512;

/// A token of a list in order of ids, for a share in [0, 1); `None` if nothing weighs anything.
pub(super) fn from_list(list: &[Ranked], weights: Weights, share: f64) -> Option<u32> {
    let weighed = list.iter().map(|ranked| (ranked.token(), f64::from(weights.of(ranked.score()))));
    crossing(weighed, share * weight_of(list, weights))
}

/// A token of a whole row, for a share in [0, 1); `None` if nothing weighs anything.
pub(super) fn from_row(scores: &[f32], weights: Weights, share: f64) -> Option<u32> {
    let mut left = share * weights.sum(scores);
    let mut chosen = None;
    for (block, first) in scores.chunks(BLOCK).zip((0u32..).step_by(BLOCK)) {
        let weight = weights.sum(block);
        if weight > 0.0 {
            chosen = Some((block, first, left));
            if left < weight {
                break;
            }
        }
        left -= weight;
    }
    let (block, first, left) = chosen?;
    let weighed = block.iter().zip(first..);
    crossing(weighed.map(|(&score, token)| (token, f64::from(weights.of(score)))), left)
}

/// The first token at which the weights exceed `sum`. Rounding may leave a trace beyond the last one
/// that weighs anything, which is then it.
fn crossing(weighed: impl Iterator<Item = (u32, f64)>, sum: f64) -> Option<u32> {
    let mut left = sum;
    let mut crossed = None;
    for (token, weight) in weighed.filter(|&(_, weight)| weight > 0.0) {
        crossed = Some(token);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    crossed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_and_the_list_of_all_its_tokens_draw_the_same() {
        let scores: Vec<f32> = (0..1500).map(|i| ((i * 37) % 1500) as f32 * 0.004).collect();
        let weights = Weights::new(1499.0 * 0.004, 0.8);
        let all = scores.iter().zip(0..).map(|(&score, token)| Ranked::new(token, score));
        let all: Vec<Ranked> = all.collect();
        let mut last = 0;
        for step in 0..1000 {
            let share = f64::from(step) / 1000.0;
            let token = from_row(&scores, weights, share);
            assert_eq!(token, from_list(&all, weights, share), "{share}");
            assert!(token >= Some(last), "a larger share gives a later token");
            last = token.unwrap_or(last);
        }
        assert!(last > 1400);
    }

    #[test]
    fn a_share_beyond_all_weights_gives_the_last_that_weighs_anything() {
        let none = f32::NEG_INFINITY;
        let mut scores = vec![none; 2000];
        scores[3] = 1.0;
        scores[700] = 1.0;
        let weights = Weights::new(1.0, 1.0);
        assert_eq!(from_row(&scores, weights, 0.499), Some(3));
        assert_eq!(from_row(&scores, weights, 0.5), Some(700));
        assert_eq!(from_row(&scores, weights, 1.5), Some(700));
        assert_eq!(from_row(&[none; 4], weights, 0.5), None);
        assert_eq!(from_list(&[], weights, 0.5), None);
    }
}
