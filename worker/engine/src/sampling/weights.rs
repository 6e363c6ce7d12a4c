//! The likelihoods of a row's tokens, as shares of the likeliest one's.

use super::scan;

/// Sums that are kept side by side.
const LANES: usize = 16;

/// Weights `e^((score - highest) / temperature)`: 1 for the likeliest token, 0 for one that can't
/// be chosen. Whoever adds them up does it in float64.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    highest: f32,
    scale: f32,
}

impl Weights {
    /// Of a row whose highest score this is.
    pub(super) fn new(highest: f32, temperature: f32) -> Self {
        // Within these bounds a difference of zero stays zero, whatever the temperature.
        let scale = temperature.recip().clamp(f32::MIN_POSITIVE, f32::MAX);
        Self { highest: highest.min(f32::MAX), scale }
    }

    /// The weight of a score; NaN weighs nothing.
    #[inline(always)]
    pub(super) fn of(self, score: f32) -> f32 {
        let exponent = (score - self.highest) * self.scale;
        // Above only for infinities; NaN passes.
        exp(if exponent > 0.0 { 0.0 } else { exponent })
    }

    /// The weight of all scores.
    pub(super) fn sum(self, scores: &[f32]) -> f64 {
        let (groups, rest) = scores.as_chunks::<LANES>();
        let mut lanes = [0.0f64; LANES];
        for group in groups {
            let mut weights = [0.0f32; LANES];
            for (weight, &score) in weights.iter_mut().zip(group) {
                *weight = self.of(score);
            }
            for (lane, weight) in lanes.iter_mut().zip(weights) {
                *lane += f64::from(weight);
            }
        }
        let rest = rest.iter().map(|&score| f64::from(self.of(score)));
        lanes.iter().copied().chain(rest).sum()
    }

    /// A score, a number, that nothing of this weight is below, nor anything much lighter.
    pub(super) fn floor(self, weight: f64) -> f32 {
        // A hundredth less covers the rounding of weights.
        let exponent = (0.99 * weight).ln();
        let floor = f64::from(self.highest) + exponent / f64::from(self.scale);
        (floor as f32).max(f32::MIN)
    }

    /// The natural logarithm of a token's probability, where all weights add up to `total`.
    pub(super) fn log_prob(self, score: f32, total: f64) -> f32 {
        if score.is_nan() || score == f32::NEG_INFINITY {
            return f32::NEG_INFINITY;
        }
        let difference = f64::from(score.min(f32::MAX)) - f64::from(self.highest);
        // Tokens that can be chosen keep a number that can be added up.
        ((difference * f64::from(self.scale) - total.ln()) as f32).max(f32::MIN)
    }
}

/// The log probability of `token` in the softmax of `logits`; negative infinity where the model
/// gave no number.
pub(super) fn log_prob(logits: &[f32], token: u32) -> f32 {
    let Some(best) = scan::best(logits) else { return f32::NEG_INFINITY };
    let weights = Weights::new(best.score, 1.0);
    let score = logits.get(token as usize).copied().unwrap_or(f32::NAN);
    weights.log_prob(score, weights.sum(logits))
}

/// Exponents below give 0: no draw of 53 bits can tell.
const LEAST_EXPONENT: f32 = -80.0;

/// `e^x` for x up to zero, to a few units in the last place; 0 for NaN. Compiles to vector
/// instructions, and gives the same bits with any of them. The polynomial is that of Moshier's
/// Cephes library, `expf`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the nearest integer in a float's low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    // In this form NaN gives 0.
    if x > LEAST_EXPONENT { p * f32::from_bits(exponent) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_float32() {
        for step in 0..800_000 {
            let x = step as f32 * -1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2e-7 || x <= LEAST_EXPONENT, "e^{x} is off by {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!([exp(-1e9), exp(f32::NEG_INFINITY), exp(f32::NAN)], [0.0; 3]);
    }

    #[test]
    fn the_likeliest_token_weighs_one_at_any_temperature() {
        for highest in [f32::MIN, -1.0, 0.0, 3.5, f32::MAX, f32::INFINITY] {
            for temperature in [f32::from_bits(1), 1e-30, 0.5, 1.0, 1e30, f32::INFINITY] {
                let weights = Weights::new(highest, temperature);
                assert_eq!(weights.of(highest), 1.0, "{highest} at {temperature}");
                assert_eq!(weights.of(f32::NEG_INFINITY), 0.0, "{highest} at {temperature}");
                assert_eq!(weights.of(f32::NAN), 0.0);
            }
        }
    }

    #[test]
    fn nothing_of_a_weight_is_below_its_floor() {
        for (highest, temperature) in [(3.0, 1.0), (-500.0, 0.3), (1e6, 2.0), (0.5, 40.0)] {
            let weights = Weights::new(highest, temperature);
            for weight in [1.0, 0.7, 0.01, 1e-9, 1e-30] {
                let floor = weights.floor(weight);
                assert!(f64::from(weights.of(floor.next_down())) < weight);
                let lighter = weights.of((floor - 0.1 * temperature).next_down());
                assert!(f64::from(lighter) < 0.95 * weight, "{highest} {temperature} {weight}");
            }
            assert_eq!(weights.floor(0.0), f32::MIN);
        }
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits: Vec<f32> = (0..1003).map(|i| ((i * 7919) % 1003) as f32 * 0.02 - 9.0).collect();
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        for token in [0, 17, 500, 1002] {
            let expected = f64::from(logits[token]) - sum.ln();
            let got = log_prob(&logits, token as u32);
            assert!((f64::from(got) - expected).abs() < 1e-5, "{got}, not {expected}");
        }
    }

    #[test]
    fn what_is_no_number_has_no_log_probability() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        assert_eq!(log_prob(&[nan, nan], 0), -infinite);
        assert_eq!(log_prob(&[1.0, nan, -infinite], 1), -infinite);
        assert_eq!(log_prob(&[1.0, nan, -infinite], 2), -infinite);
        assert_eq!(log_prob(&[1.0, nan, -infinite], 0), 0.0);
        assert!((log_prob(&[infinite, infinite, 0.0], 1) - 0.5f32.ln()).abs() < 1e-6);
        assert_eq!(log_prob(&[infinite, 0.0], 1), f32::MIN);
    }
}
