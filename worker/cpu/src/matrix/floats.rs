//! How floats lie in memory: of a group, a record of sixteen numbers an input.

use half::{bf16, f16, slice::HalfFloatSliceExt};

use super::{GROUP, weights::BlockType};

/// A type of weights that are no quants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatType {
    /// 32 bits.
    F32,
    /// IEEE halves.
    F16,
    /// The upper halves of 32 bits.
    Bf16,
}

impl BlockType for FloatType {
    fn block_len(self) -> usize {
        1
    }

    fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    #[inline]
    fn for_each_weight(self, record: &[u8], lane: usize, mut each: impl FnMut(usize, f32)) {
        each(
            0,
            match self {
                Self::F32 => f32::from_le_bytes(item(record, lane)),
                Self::F16 => f16::from_le_bytes(item(record, lane)).to_f32(),
                Self::Bf16 => bf16::from_le_bytes(item(record, lane)).to_f32(),
            },
        );
    }
}

impl FloatType {
    /// The numbers of all lanes of a record.
    pub(crate) fn widen(self, record: &[u8], numbers: &mut [f32; GROUP]) {
        match self {
            Self::F32 => bytemuck::cast_slice_mut(numbers).copy_from_slice(record),
            Self::F16 => {
                let halves: [[u8; 2]; GROUP] = bytemuck::pod_read_unaligned(record);
                halves.map(f16::from_le_bytes).convert_to_f32_slice(numbers);
            }
            Self::Bf16 => {
                let halves: [[u8; 2]; GROUP] = bytemuck::pod_read_unaligned(record);
                halves.map(bf16::from_le_bytes).convert_to_f32_slice(numbers);
            }
        }
    }
}

/// The number of one lane.
pub(crate) fn item<const N: usize>(record: &[u8], lane: usize) -> [u8; N] {
    record[lane * N..][..N].try_into().expect("a slice of N bytes")
}
