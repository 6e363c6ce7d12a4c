//! How the numbers of a tensor are stored: ggml's types, as far as they are read.
//!
//! The layouts are those of <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>;
//! [`decode_sub_block`](crate::decode_sub_block) reads them.

use std::fmt;

/// Elements of a quantised type that have their scales in common, or two scales for sixteen each.
pub(crate) const SUB_BLOCK: usize = 32;

/// Elements of a super-block, in the types whose names end in K.
const SUPER_BLOCK: usize = 256;

/// How the numbers of a tensor are stored. `d` and `m` are f16 below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "files and tools write them so")]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// The upper halves of 32-bit floats.
    BF16,
    /// Blocks of 32: a scale `d`, 16 bytes of nibbles; `w = (q - 8) * d`.
    /// Byte j holds element j in its low and element j + 16 in its high nibble.
    Q4_0,
    /// As [`Self::Q4_0`], with a minimum `m` after the scale; `w = q * d + m`.
    Q4_1,
    /// Blocks of 32: a scale `d`, 32 bits, bit j being the fifth of element j, then nibbles as in
    /// [`Self::Q4_0`]; `w = (q - 16) * d`.
    Q5_0,
    /// As [`Self::Q5_0`], with a minimum `m` after the scale; `w = q * d + m`.
    Q5_1,
    /// Blocks of 32: a scale `d`, 32 signed bytes; `w = q * d`.
    Q8_0,
    /// Super-blocks of 256: `d` and `m`, eight scales and eight minima of 6 bits in 12 bytes, 128 bytes
    /// of nibbles; `w = q * d * scale - m * minimum`, by sub-blocks of 32.
    Q4_K,
    /// As [`Self::Q4_K`], with 32 bytes of fifth bits before the nibbles.
    Q5_K,
    /// Super-blocks of 256: 128 bytes of nibbles, 64 bytes of upper pairs of bits, sixteen signed
    /// bytes as scales of sixteen elements each, `d`; `w = (q - 32) * d * scale`.
    Q6_K,
}

impl TensorType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Elements in one block; 1 for plain floats.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => SUB_BLOCK,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => SUPER_BLOCK,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Elements between two places at which columns can be cut: 1 for plain floats, 32 for quantised
    /// types, also within their super-blocks.
    #[must_use]
    pub fn sub_block_len(self) -> usize {
        self.block_len().min(SUB_BLOCK)
    }

    /// Bytes of `len` elements, a whole number of blocks.
    ///
    /// # Panics
    /// If they are more than can be addressed.
    #[must_use]
    pub fn bytes(self, len: usize) -> usize {
        self.checked_bytes(len).expect("elements of a tensor can be addressed")
    }

    pub(crate) fn checked_bytes(self, len: usize) -> Option<usize> {
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// ggml's number of the type, by which files name it.
    #[must_use]
    pub fn ggml_id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::BF16 => 30,
        }
    }

    /// The name that files and tools use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
