//! How elements of keys and values become lanes of the cache, and what those mean.

use half::{bf16, f16};
use shardrun_model::CacheType;

use crate::matrix::{BlockType, floats};

/// The greatest whole number of a lane of [`CacheType::Int8`].
const GREATEST: f32 = 127.0;

/// Stores a vector, element n at lane `lane_of(n)`. Gives the scale that its lanes are to be multiplied
/// by, if the type has one.
#[inline]
pub(super) fn put(
    dtype: CacheType,
    vector: &[f32],
    lanes: &mut [u8],
    lane_of: impl Fn(usize) -> usize,
) -> Option<f32> {
    match dtype {
        CacheType::F32 => scatter(vector, lanes, lane_of, f32::to_le_bytes),
        CacheType::Bf16 => scatter(vector, lanes, lane_of, |x| bf16::from_f32(x).to_le_bytes()),
        CacheType::F16 => scatter(vector, lanes, lane_of, |x| f16::from_f32(x).to_le_bytes()),
        CacheType::Int8 => {
            let scale = greatest(vector) / GREATEST;
            scatter(vector, lanes, lane_of, |x| quantised(x, scale).to_le_bytes());
            return Some(scale);
        }
    }
    None
}

#[inline(always)]
fn scatter<const N: usize>(
    vector: &[f32],
    lanes: &mut [u8],
    lane_of: impl Fn(usize) -> usize,
    bytes_of: impl Fn(f32) -> [u8; N],
) {
    for (at, &element) in vector.iter().enumerate() {
        let first = lane_of(at) * N;
        lanes[first..first + N].copy_from_slice(&bytes_of(element));
    }
}

/// The greatest magnitude; not a number if an element isn't, so that a fault upstream stays visible.
fn greatest(vector: &[f32]) -> f32 {
    vector.iter().map(|element| element.abs()).fold(0.0, |greatest, magnitude| {
        if magnitude > greatest || magnitude.is_nan() { magnitude } else { greatest }
    })
}

/// The whole number nearest to `element / scale`, halves to even; whatever it is for a scale of 0, the
/// product is 0 again.
#[inline(always)]
fn quantised(element: f32, scale: f32) -> i8 {
    /// 1.5 * 2^23: float32 from 2^23 to 2^24 are the whole numbers, so a sum with this is rounded to
    /// one, without the call that rounding is on a CPU of no particular instruction set.
    const WHOLE: f32 = 12_582_912.0;
    let quotient = (element / scale).clamp(-GREATEST, GREATEST);
    (quotient + WHOLE - WHOLE) as i8
}

impl BlockType for CacheType {
    fn block_len(self) -> usize {
        1
    }

    fn block_bytes(self) -> usize {
        self.element_bytes()
    }

    #[inline]
    fn for_each_weight(self, record: &[u8], lane: usize, mut each: impl FnMut(usize, f32)) {
        let lane = match self {
            Self::F32 => f32::from_le_bytes(floats::item(record, lane)),
            Self::Bf16 => bf16::from_le_bytes(floats::item(record, lane)).to_f32(),
            Self::F16 => f16::from_le_bytes(floats::item(record, lane)).to_f32(),
            Self::Int8 => f32::from(record[lane].cast_signed()),
        };
        each(0, lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vector` as it is read back.
    fn kept(dtype: CacheType, vector: &[f32]) -> Vec<f32> {
        let mut record = vec![0; dtype.record_bytes()];
        // Backwards, to see that lanes are where they should be.
        let scale = put(dtype, vector, &mut record, |at| vector.len() - 1 - at);
        let mut read = Vec::new();
        for lane in (0..vector.len()).rev() {
            dtype.for_each_weight(&record, lane, |_, x| read.push(x * scale.unwrap_or(1.0)));
        }
        read
    }

    #[test]
    fn floats_stay_as_they_are() {
        let vector = [1.0, -3.3e-42, f32::MAX, f32::NEG_INFINITY];
        assert_eq!(kept(CacheType::F32, &vector), vector);
    }

    #[test]
    fn halves_are_the_nearest_and_even_in_the_middle() {
        let ulp = 2f32.powi(-10);
        let vector =
            [1.0 + 0.5 * ulp, 1.0 + 1.5 * ulp, 1.0 + 0.5001 * ulp, 65519.9, 65520.0, -1e-9];
        let expected = [1.0, 1.0 + 2.0 * ulp, 1.0 + ulp, 65504.0, f32::INFINITY, 0.0];
        assert_eq!(kept(CacheType::F16, &vector), expected);
        let ulp = 2f32.powi(-7);
        let vector = [1.0 + 0.5 * ulp, 1.0 + 1.5 * ulp, -1.0 - 0.5001 * ulp, 1e38, f32::INFINITY];
        let expected =
            [1.0, 1.0 + 2.0 * ulp, -1.0 - ulp, f32::from_bits(0x7e96_0000), f32::INFINITY];
        assert_eq!(kept(CacheType::Bf16, &vector), expected);
    }

    #[test]
    fn whole_numbers_are_steps_of_a_127th_of_the_greatest() {
        let vector = [254.0, -254.0, 3.0, 5.0, 5.1, -7.0, 0.9, 0.0];
        let expected = [254.0, -254.0, 4.0, 4.0, 6.0, -8.0, 0.0, 0.0];
        assert_eq!(kept(CacheType::Int8, &vector), expected);
        for least in [0.0, f32::from_bits(1), f32::MIN_POSITIVE] {
            for (kept, element) in kept(CacheType::Int8, &[least, -least]).iter().zip([1.0, -1.0]) {
                assert!((kept - element * least).abs() <= f32::MIN_POSITIVE / 127.0, "{kept}");
            }
        }
    }

    #[test]
    fn a_fault_upstream_stays_visible() {
        for dtype in CacheType::ALL {
            assert!(kept(dtype, &[1.0, f32::NAN, 2.0])[1].is_nan(), "{dtype}");
            assert!(!kept(dtype, &[1.0, f32::INFINITY, 2.0])[1].is_finite(), "{dtype}");
        }
    }
}
