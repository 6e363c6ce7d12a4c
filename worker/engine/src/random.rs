//! Random numbers that are a pure function of a seed, a sequence and a position: Philox4x32-10
//! (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Scrambles a counter under a key.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let product = |i: usize| u64::from(MULTIPLIERS[i]) * u64::from(counter[2 * i]);
        let (high0, low0) = ((product(0) >> 32) as u32, product(0) as u32);
        let (high1, low1) = ((product(1) >> 32) as u32, product(1) as u32);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

/// A number in [0, 1), the same whenever `seed`, `sequence` and `position` are.
pub(crate) fn uniform(seed: u64, sequence: u32, position: u32) -> f64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let [a, b, ..] = philox([position, sequence, 0, 0], key);
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the authors' Random123 library.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        let expected = [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd];
        assert_eq!(philox([ones; 4], [ones; 2]), expected);
    }

    #[test]
    fn numbers_spread_over_the_interval() {
        let numbers =
            (0..100).flat_map(|seed| (0..1000).map(move |p| uniform(seed, seed as u32 % 7, p)));
        let mean = numbers.sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
    }

    #[test]
    fn seeds_sequences_and_positions_have_numbers_of_their_own() {
        let number = uniform(7, 0, 1);
        for other in [uniform(8, 0, 1), uniform(7, 1, 1), uniform(7, 0, 2), uniform(7, 1, 0)] {
            assert_ne!(number, other);
        }
        // A change here changes what every seed gives.
        assert_eq!([uniform(7, 0, 1), uniform(7, 1, 1)], [0.4069604044303493, 0.23728117792196124]);
    }
}
