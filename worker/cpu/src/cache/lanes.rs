//! How elements of keys and values become lanes of the cache, and what those mean.

use bytemuck::Pod;
use half::{f16, slice::HalfFloatSliceExt};
use shardrun_model::CacheType;

use crate::matrix::GROUP;

/// The greatest whole number of a lane of [`CacheType::Int8`].
const GREATEST: f32 = 127.0;

/// Elements of a key, or tokens of a group's values, that are multiplied at once.
pub(crate) fn step(dtype: CacheType) -> usize {
    match dtype {
        CacheType::Bf16 => 2,
        CacheType::F32 | CacheType::F16 | CacheType::Int8 => 1,
    }
}

/// Stores the key of a group's token `at`. Gives the scale that its numbers are to be multiplied by,
/// if the type has one.
pub(super) fn put_key(dtype: CacheType, group: &mut [u8], at: usize, key: &[f32]) -> Option<f32> {
    match dtype {
        CacheType::F32 => put_lane(group, at, sixteens(key)),
        CacheType::F16 => put_lane(group, at, sixteens(key).map(halves)),
        CacheType::Bf16 => {
            let pairs = |numbers| bytemuck::cast::<[u16; GROUP], [u32; GROUP / 2]>(numbers);
            put_lane(group, at, sixteens(key).map(upper_halves).map(pairs));
        }
        CacheType::Int8 => {
            let scale = greatest(key) / GREATEST;
            put_lane(group, at, sixteens(key).map(|numbers| quantised(numbers, scale)));
            return Some(scale);
        }
    }
    None
}

/// Stores the value of a group's token `at`; the rest as [`put_key`].
pub(super) fn put_value(
    dtype: CacheType,
    group: &mut [u8],
    at: usize,
    value: &[f32],
) -> Option<f32> {
    let width = value.len().next_multiple_of(GROUP);
    match dtype {
        CacheType::F32 => put_row(group, at * width, sixteens(value)),
        CacheType::F16 => put_row(group, at * width, sixteens(value).map(halves)),
        CacheType::Bf16 => {
            // The other token of the pair stays.
            let (shift, kept) =
                if at.is_multiple_of(2) { (0, 0xffff_0000) } else { (16, 0x0000_ffff) };
            let words: &mut [u32] = bytemuck::cast_slice_mut(group);
            let words = words[at / 2 * width..].chunks_exact_mut(GROUP);
            for (words, numbers) in words.zip(sixteens(value).map(upper_halves)) {
                for (word, number) in words.iter_mut().zip(numbers) {
                    *word = *word & kept | u32::from(number) << shift;
                }
            }
        }
        CacheType::Int8 => {
            let scale = greatest(value) / GREATEST;
            put_row(group, at * width, sixteens(value).map(|numbers| quantised(numbers, scale)));
            return Some(scale);
        }
    }
    None
}

/// Sixteen elements at a time, which is what compilers make vectors of; the last ones with zeros.
fn sixteens(vector: &[f32]) -> impl Iterator<Item = [f32; GROUP]> {
    vector.chunks(GROUP).map(|some| {
        some.try_into().unwrap_or_else(|_| {
            let mut all = [0.0; GROUP];
            all[..some.len()].copy_from_slice(some);
            all
        })
    })
}

/// Writes numbers to one lane, a group of lanes for each.
fn put_lane<T: Pod, const N: usize>(
    group: &mut [u8],
    lane: usize,
    numbers: impl Iterator<Item = [T; N]>,
) {
    let group: &mut [T] = bytemuck::cast_slice_mut(group);
    for (lanes, numbers) in group.chunks_mut(N * GROUP).zip(numbers) {
        for (lanes, number) in lanes.chunks_exact_mut(GROUP).zip(numbers) {
            lanes[lane] = number;
        }
    }
}

/// Writes numbers side by side, from number `first` on.
fn put_row<T: Pod>(group: &mut [u8], first: usize, numbers: impl Iterator<Item = [T; GROUP]>) {
    let group: &mut [T] = bytemuck::cast_slice_mut(group);
    for (place, numbers) in group[first..].chunks_exact_mut(GROUP).zip(numbers) {
        place.copy_from_slice(&numbers);
    }
}

fn halves(numbers: [f32; GROUP]) -> [u16; GROUP] {
    let mut halves = [f16::ZERO; GROUP];
    halves.convert_from_f32_slice(&numbers);
    halves.map(f16::to_bits)
}

/// The bfloat16 that are nearest, halves to even. Not a number stays so.
fn upper_halves(numbers: [f32; GROUP]) -> [u16; GROUP] {
    numbers.map(|number| {
        let bits = number.to_bits();
        let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
        let kept = bits >> 16 | 0x40;
        (if number.is_nan() { kept } else { nearest }) as u16
    })
}

/// The greatest magnitude; not a number if an element isn't, so that a fault upstream stays visible.
fn greatest(vector: &[f32]) -> f32 {
    vector.iter().map(|element| element.abs()).fold(0.0, |greatest, magnitude| {
        if magnitude > greatest || magnitude.is_nan() { magnitude } else { greatest }
    })
}

/// The whole numbers nearest to `element / scale`, halves to even; whatever they are for a scale of 0,
/// the products are 0 again.
fn quantised(elements: [f32; GROUP], scale: f32) -> [i8; GROUP] {
    /// 1.5 * 2^23: float32 from 2^23 to 2^24 are the whole numbers, so a sum with this is rounded to
    /// one, without the call that rounding is on a CPU of no particular instruction set.
    const WHOLE: f32 = 12_582_912.0;
    elements.map(|element| {
        let quotient = (element / scale).clamp(-GREATEST, GREATEST);
        (quotient + WHOLE - WHOLE) as i8
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::memory::Memory;

    /// `vector` as it is read back, stored as a key and as a value.
    fn kept(dtype: CacheType, vector: &[f32]) -> Vec<f32> {
        // The last of sixteen tokens, after others that must stay.
        let width = vector.len().next_multiple_of(GROUP);
        let mut memory = [(); 2].map(|()| Memory::zeroed("a test", width * GROUP * 4).unwrap());
        let [keys, values]: [&mut [u8]; 2] = memory.each_mut().map(Memory::as_mut_slice);
        for at in 0..GROUP - 1 {
            put_key(dtype, keys, at, &vec![9.0; vector.len()]);
            put_value(dtype, values, at, &vec![9.0; vector.len()]);
        }
        let before = values.to_vec();
        let scale = put_key(dtype, keys, GROUP - 1, vector);
        assert_eq!(
            put_value(dtype, values, GROUP - 1, vector).map(f32::to_bits),
            scale.map(f32::to_bits)
        );
        let step = step(dtype);
        let number = |stored: &[u8], at: usize| {
            let bytes = &stored[at * dtype.element_bytes()..];
            match dtype {
                CacheType::F32 => f32::from_ne_bytes(bytes[..4].try_into().unwrap()),
                CacheType::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                CacheType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                CacheType::Int8 => f32::from(bytes[0] as i8),
            }
        };
        for token in 0..GROUP - 1 {
            for dimension in 0..width {
                let at = (token / step * width + dimension) * step + token % step;
                assert_eq!(number(values, at), number(&before, at));
            }
        }
        let read = |at: usize| {
            let key = number(keys, (at / step * GROUP + GROUP - 1) * step + at % step);
            let last = (GROUP - 1) / step * width;
            let value = number(values, (last + at) * step + (GROUP - 1) % step);
            assert!(key == value || key.is_nan() && value.is_nan());
            key * scale.unwrap_or(1.0)
        };
        (0..vector.len()).map(read).collect()
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
