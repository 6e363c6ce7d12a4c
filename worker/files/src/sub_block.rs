//! The one reading of quantised blocks: 32 elements at a time, in a form that all types share.

use half::f16;

use crate::{TensorType, tensor_type::SUB_BLOCK};

/// 32 quantised elements: element i is `quants[i] * scales[i / 16] + minima[i / 16]`.
///
/// The product is exact in float32 for every type, so a fused multiply-add and a multiplication with
/// an addition after it give the same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubBlock {
    /// Whole numbers from 0: up to 15, 31, 63 or 255, by the bits of the type.
    pub quants: [u8; SUB_BLOCK],
    /// Scales of the first and of the second sixteen elements.
    pub scales: [f32; 2],
    /// What the first and the second sixteen elements are where their quants are 0.
    pub minima: [f32; 2],
}

impl SubBlock {
    /// The elements.
    #[must_use]
    pub fn values(&self) -> [f32; SUB_BLOCK] {
        std::array::from_fn(|i| {
            f32::from(self.quants[i]).mul_add(self.scales[i / 16], self.minima[i / 16])
        })
    }

    /// Quants with one scale, around `zero`, the quant that stands for 0.
    fn around(zero: u8, scale: f32, quants: [u8; SUB_BLOCK]) -> Self {
        Self::above(-f32::from(zero) * scale, scale, quants)
    }

    /// Quants with one scale and one minimum.
    fn above(minimum: f32, scale: f32, quants: [u8; SUB_BLOCK]) -> Self {
        Self { quants, scales: [scale; 2], minima: [minimum; 2] }
    }
}

/// The elements of sub-block `sub` of a block as it is stored.
///
/// # Panics
/// If the type is not a quantised one, `block` hasn't its number of bytes, or there is no such
/// sub-block.
#[must_use]
pub fn decode_sub_block(tensor_type: TensorType, block: &[u8], sub: usize) -> SubBlock {
    assert!(sub < tensor_type.block_len() / SUB_BLOCK, "{tensor_type} has no sub-block {sub}");
    match tensor_type {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {
            unreachable!("floats have no sub-blocks")
        }
        TensorType::Q4_0 => q4_0(whole(block)),
        TensorType::Q4_1 => q4_1(whole(block)),
        TensorType::Q5_0 => q5_0(whole(block)),
        TensorType::Q5_1 => q5_1(whole(block)),
        TensorType::Q8_0 => q8_0(whole(block)),
        TensorType::Q4_K => q4_k(whole(block), sub),
        TensorType::Q5_K => q5_k(whole(block), sub),
        TensorType::Q6_K => q6_k(whole(block), sub),
    }
}

/// What the scales and minima of a sub-block are made of, for those who keep them as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredScales {
    /// The scale, f16; that of the super-block where there is one.
    pub d: [u8; 2],
    /// The minimum, f16, of types that have one; that of the super-block where there is one.
    pub m: [u8; 2],
    /// By what `d` is multiplied for the first and the second half: whole numbers, signed in Q6_K, of
    /// types with super-blocks.
    pub scales: [u8; 2],
    /// By what `m` is multiplied, and subtracted then, of types with super-blocks and minima.
    pub minimum: u8,
}

/// The scales of sub-block `sub` of a block as they are stored.
///
/// # Panics
/// As [`decode_sub_block`] does.
#[must_use]
pub fn stored_scales(tensor_type: TensorType, block: &[u8], sub: usize) -> StoredScales {
    assert!(sub < tensor_type.block_len() / SUB_BLOCK, "{tensor_type} has no sub-block {sub}");
    assert_eq!(block.len(), tensor_type.block_bytes(), "a block of the type");
    let two = |at: usize| [block[at], block[at + 1]];
    let (m, scales, minimum) = match tensor_type {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {
            unreachable!("floats have no sub-blocks")
        }
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => ([0; 2], [1; 2], 0),
        TensorType::Q4_1 | TensorType::Q5_1 => (two(2), [1; 2], 1),
        TensorType::Q4_K | TensorType::Q5_K => {
            let (scale, minimum) = six_bits(whole(&block[4..16]), sub);
            (two(2), [scale; 2], minimum)
        }
        TensorType::Q6_K => ([0; 2], two(192 + 2 * sub), 0),
    };
    let d = two(if tensor_type == TensorType::Q6_K { 208 } else { 0 });
    StoredScales { d, m, scales, minimum }
}

fn q4_0(block: &[u8; 18]) -> SubBlock {
    let [d0, d1, nibbles @ ..] = block;
    SubBlock::around(8, half([*d0, *d1]), low_then_high(nibbles))
}

fn q4_1(block: &[u8; 20]) -> SubBlock {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    SubBlock::above(half([*m0, *m1]), half([*d0, *d1]), low_then_high(nibbles))
}

fn q5_0(block: &[u8; 22]) -> SubBlock {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    let quants = with_fifth_bits([*h0, *h1, *h2, *h3], low_then_high(nibbles));
    SubBlock::around(16, half([*d0, *d1]), quants)
}

fn q5_1(block: &[u8; 24]) -> SubBlock {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    let quants = with_fifth_bits([*h0, *h1, *h2, *h3], low_then_high(nibbles));
    SubBlock::above(half([*m0, *m1]), half([*d0, *d1]), quants)
}

fn q8_0(block: &[u8; 34]) -> SubBlock {
    let [d0, d1, quants @ ..] = block;
    // A signed byte plus 128 is the byte with its sign bit turned over.
    SubBlock::around(128, half([*d0, *d1]), quants.map(|quant| quant ^ 0x80))
}

fn q4_k(block: &[u8; 144], sub: usize) -> SubBlock {
    let (head, nibbles) = block.split_at(16);
    let (scale, minimum) = scale_and_minimum(whole(head), sub);
    SubBlock::above(minimum, scale, half_of_bytes(nibbles, sub))
}

fn q5_k(block: &[u8; 176], sub: usize) -> SubBlock {
    let (head, rest) = block.split_at(16);
    let (fifths, nibbles) = rest.split_at(32);
    let (scale, minimum) = scale_and_minimum(whole(head), sub);
    let mut quants = half_of_bytes(nibbles, sub);
    for (quant, fifth) in quants.iter_mut().zip(fifths) {
        *quant |= (fifth >> sub & 1) << 4;
    }
    SubBlock::above(minimum, scale, quants)
}

/// Four sub-blocks share 64 bytes of nibbles and 32 bytes of upper pairs of bits.
fn q6_k(block: &[u8; 210], sub: usize) -> SubBlock {
    let (four, place) = (sub / 4, sub % 4);
    let nibbles = &block[64 * four + 32 * (place % 2)..][..SUB_BLOCK];
    let pairs = &block[128 + 32 * four..][..SUB_BLOCK];
    let quants = std::array::from_fn(|i| {
        (nibbles[i] >> (4 * (place / 2)) & 0xf) | (pairs[i] >> (2 * place) & 3) << 4
    });
    let d = half([block[208], block[209]]);
    let scales = [0, 1].map(|at| d * f32::from(block[192 + 2 * sub + at].cast_signed()));
    SubBlock { quants, scales, minima: scales.map(|scale| -32.0 * scale) }
}

/// What the heads of Q4_K and Q5_K say of a sub-block.
fn scale_and_minimum(head: &[u8; 16], sub: usize) -> (f32, f32) {
    let [d0, d1, m0, m1, packed @ ..] = head;
    let (scale, minimum) = six_bits(packed, sub);
    (half([*d0, *d1]) * f32::from(scale), -half([*m0, *m1]) * f32::from(minimum))
}

/// The scale and the minimum of a sub-block of Q4_K or Q5_K. Scales 0 to 3 are the low six bits of the
/// first four bytes, and minima those of the next four; the others are nibbles of the last four,
/// their upper bits being the two that are left of each byte before.
fn six_bits(packed: &[u8; 12], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (packed[sub] & 0x3f, packed[sub + 4] & 0x3f)
    } else {
        let nibbles = packed[sub + 4];
        let upper = |byte: u8| byte >> 6 << 4;
        (nibbles & 0xf | upper(packed[sub - 4]), nibbles >> 4 | upper(packed[sub]))
    }
}

/// The low nibbles, then the high ones.
fn low_then_high(nibbles: &[u8; 16]) -> [u8; SUB_BLOCK] {
    std::array::from_fn(|i| nibbles[i % 16] >> (i / 16 * 4) & 0xf)
}

/// Bit i of `bits` as the fifth of quant i.
fn with_fifth_bits(bits: [u8; 4], quants: [u8; SUB_BLOCK]) -> [u8; SUB_BLOCK] {
    std::array::from_fn(|i| quants[i] | (bits[i / 8] >> (i % 8) & 1) << 4)
}

/// Sub-block `sub` where two of them share 32 bytes, the first in the low nibbles.
fn half_of_bytes(nibbles: &[u8], sub: usize) -> [u8; SUB_BLOCK] {
    let bytes = &nibbles[sub / 2 * SUB_BLOCK..][..SUB_BLOCK];
    std::array::from_fn(|i| bytes[i] >> (sub % 2 * 4) & 0xf)
}

fn whole<const N: usize>(block: &[u8]) -> &[u8; N] {
    block.try_into().expect("as many bytes as a block of the type has")
}

fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_block_says_what_its_type_has_of_scales() {
        // d = 2, and the sixth sub-block's scales are -3 and 5.
        let mut block = [0xff; 210];
        block[192 + 10..192 + 12].copy_from_slice(&[0xfd, 5]);
        block[208..].copy_from_slice(&f16::from_f32(2.0).to_le_bytes());
        let expected = SubBlock { quants: [63; 32], scales: [-6.0, 10.0], minima: [192.0, -320.0] };
        assert_eq!(decode_sub_block(TensorType::Q6_K, &block, 5), expected);

        let mut block = [0x80; 34];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        let expected = SubBlock { quants: [0; 32], scales: [0.5; 2], minima: [-64.0; 2] };
        assert_eq!(decode_sub_block(TensorType::Q8_0, &block, 0), expected);
    }

    #[test]
    #[should_panic(expected = "Q4_K has no sub-block 8")]
    fn a_sub_block_beyond_the_last_is_a_bug() {
        let _ = decode_sub_block(TensorType::Q4_K, &[0; 144], 8);
    }
}
