//! The highest score of a row, in loops that compile to vector instructions.

/// Maxima that are kept side by side.
const LANES: usize = 16;
/// Scores that are looked at together.
const BLOCK: usize = 256;

/// A row's highest score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Best {
    pub(super) token: u32,
    pub(super) score: f32,
}

/// The highest score above negative infinity, the lowest id on a tie; NaN counts as negative
/// infinity.
pub(super) fn best(scores: &[f32]) -> Option<Best> {
    let mut score = f32::NEG_INFINITY;
    let mut found = None;
    for (index, block) in scores.chunks(BLOCK).enumerate() {
        let highest = highest(block);
        if highest > score {
            score = highest;
            found = Some((index, block));
        }
    }
    let (index, block) = found?;
    let place = block.iter().position(|&one| one == score)?;
    Some(Best { token: (index * BLOCK + place) as u32, score })
}

/// The highest of some scores, negative infinity if there is no number.
pub(super) fn highest(scores: &[f32]) -> f32 {
    // In this form NaN loses, and the compiler finds the instruction for it.
    let higher = |score: f32, than: f32| if score > than { score } else { than };
    let (groups, rest) = scores.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for group in groups {
        for (lane, &score) in lanes.iter_mut().zip(group) {
            *lane = higher(score, *lane);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |highest, &score| higher(score, highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_id_wins_a_tie_wherever_it_is() {
        for len in [1, 15, 16, 17, 255, 256, 257, 1000] {
            for place in [0, len / 2, len - 1] {
                let mut scores = vec![-3.0; len];
                scores[place..].fill(2.5);
                assert_eq!(best(&scores), Some(Best { token: place as u32, score: 2.5 }));
            }
        }
    }

    #[test]
    fn nan_counts_as_negative_infinity() {
        let (nan, none) = (f32::NAN, f32::NEG_INFINITY);
        let mut scores = vec![nan; 600];
        assert_eq!(best(&scores), None);
        scores[300] = none;
        assert_eq!(best(&scores), None);
        scores[299] = f32::MIN;
        assert_eq!(best(&scores), Some(Best { token: 299, score: f32::MIN }));
        assert_eq!(best(&[]), None);
    }
}
