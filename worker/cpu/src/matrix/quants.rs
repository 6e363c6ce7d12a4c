//! How quantised weights lie in memory.
//!
//! Sixteen outputs are a group; thirty-two inputs of a group are a sub-block, the unit that kernels
//! multiply at once. Its quants come in eight vectors of sixteen words: word l of vector j is output l's
//! elements 4j to 4j + 3, one a byte. The lower four bits of vectors j and j + 4 share the bytes of
//! vector j in memory, as low and high nibbles. What is above them follows:
//!
//! * the fifth bit: eight masks of 64 bits, one a vector, bit n for byte n;
//! * the fifth and sixth bit: two vectors, in which bits 2j and 2j + 1 of a byte belong to vector j of the
//!   lower and of the upper four vectors;
//! * quants of eight bits have no nibbles: their eight vectors lie as they are.
//!
//! Then come sixteen scales, and minima if the type has them: f16, or whole numbers where a
//! super-block of eight sub-blocks has an f16 scale (and minimum) that these are multiples of. Those stand
//! at its start.
//!
//! Every type means `quant * scale + minimum`, the minimum being `-CENTRE * scale` where none is stored.

use shardrun_files::TensorType;

use super::floats::FloatType;

/// Outputs in a group: lanes of a sub-block.
pub(crate) const GROUP: usize = 16;
/// Inputs of a sub-block.
pub(crate) const SUB_BLOCK: usize = 32;
/// Bytes of the lower four bits of a sub-block's quants.
pub(crate) const NIBBLE_BYTES: usize = GROUP * SUB_BLOCK / 2;
/// Bytes of one vector of quants.
pub(crate) const VECTOR_BYTES: usize = 64;

/// One type's layout.
pub(crate) trait Quants {
    /// Bits of a quant: 4, 5, 6 or 8.
    const BITS: usize;
    /// Whether minima are stored.
    const MINIMA: bool;
    /// What stands for zero where no minima are stored.
    const CENTRE: u8;
    /// Whether eight sub-blocks make a super-block.
    const SUPER: bool;
    /// Whether the two halves of a sub-block have scales of their own.
    const HALVES: bool;

    /// Where the scales of a sub-block begin.
    const SCALES: usize = NIBBLE_BYTES + (Self::BITS - 4) * VECTOR_BYTES;
    /// Bytes of sixteen scales, or minima, of a sub-block.
    const SCALE_BYTES: usize = if Self::SUPER { GROUP } else { 2 * GROUP };
    /// Where its minima begin, or the scales of its second half.
    const MORE_SCALES: usize = Self::SCALES + Self::SCALE_BYTES;
    /// Bytes of a sub-block.
    const SUB_BLOCK_BYTES: usize =
        if Self::MINIMA || Self::HALVES { Self::MORE_SCALES } else { Self::SCALES }
            + Self::SCALE_BYTES;
    /// Bytes at the start of a record that all of its sub-blocks share.
    const HEADER: usize = match (Self::SUPER, Self::MINIMA) {
        (false, _) => 0,
        (true, false) => 2 * GROUP,
        (true, true) => 4 * GROUP,
    };
    /// Sub-blocks of a record, as of a block in a file.
    const SUB_BLOCKS: usize = if Self::SUPER { 8 } else { 1 };
    /// Bytes of a record.
    const RECORD: usize = Self::HEADER + Self::SUB_BLOCKS * Self::SUB_BLOCK_BYTES;

    /// Where in a group the record of its sub-block `at` begins, and where that sub-block does.
    #[inline(always)]
    fn places(at: usize) -> (usize, usize) {
        let record = at / Self::SUB_BLOCKS * Self::RECORD;
        (record, record + Self::HEADER + at % Self::SUB_BLOCKS * Self::SUB_BLOCK_BYTES)
    }
}

/// The layout of a type of weights.
pub(super) enum Stored {
    Floats(FloatType),
    Quants(QuantType),
}

/// The types that have a layout, each also as a type of its own that implements [`Quants`].
macro_rules! quant_types {
    ($($name:ident: $bits:literal bits $(centre $centre:literal)? $(, $flag:ident)*;)*) => {
        $(
            #[doc = concat!("See `TensorType::", stringify!($name), "`.")]
            #[derive(Clone, Copy, Debug)]
            #[allow(non_camel_case_types, reason = "the names that files use")]
            pub(crate) struct $name;

            impl Quants for $name {
                const BITS: usize = $bits;
                const CENTRE: u8 = 0 $(+ $centre)?;
                const MINIMA: bool = Self::CENTRE == 0;
                const SUPER: bool = false $(|| quant_types!(@super $flag))*;
                const HALVES: bool = false $(|| quant_types!(@halves $flag))*;
            }
        )*

        /// A type of quantised weights.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, reason = "the names that files use")]
        pub(crate) enum QuantType {
            $(#[doc = concat!("See `TensorType::", stringify!($name), "`.")] $name,)*
        }

        /// How the weights of a type are stored.
        pub(super) fn stored(tensor_type: TensorType) -> Stored {
            match tensor_type {
                TensorType::F32 => Stored::Floats(FloatType::F32),
                TensorType::F16 => Stored::Floats(FloatType::F16),
                TensorType::BF16 => Stored::Floats(FloatType::Bf16),
                $(TensorType::$name => Stored::Quants(QuantType::$name),)*
            }
        }

        impl QuantType {
            /// The type's name in files.
            pub(crate) fn tensor_type(self) -> TensorType {
                match self {
                    $(Self::$name => TensorType::$name,)*
                }
            }
        }

        /// `with_quants!(quant_type, Q => expression)` evaluates the expression with `Q` the
        /// layout of that type.
        macro_rules! with_quants {
            ($quant_type:expr, $layout:ident => $result:expr) => {
                match $quant_type {
                    $($crate::matrix::QuantType::$name => {
                        type $layout = $crate::matrix::quants::$name;
                        $result
                    })*
                }
            };
        }
        pub(crate) use with_quants;
    };
    (@super super_blocks) => { true };
    (@super $other:ident) => { false };
    (@halves halves) => { true };
    (@halves $other:ident) => { false };
}

quant_types! {
    Q4_0: 4 bits centre 8;
    Q4_1: 4 bits;
    Q5_0: 5 bits centre 16;
    Q5_1: 5 bits;
    Q8_0: 8 bits centre 128;
    Q4_K: 4 bits, super_blocks;
    Q5_K: 5 bits, super_blocks;
    Q6_K: 6 bits centre 32, super_blocks, halves;
}
