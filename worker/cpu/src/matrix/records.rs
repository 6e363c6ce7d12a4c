//! What a record of a matrix looks like: one block of sixteen outputs.
//!
//! * F32, F16: sixteen numbers, one a lane.
//! * Q4_1: four rows of sixteen 32-bit words, in which nibble n of the word in row r and lane l is
//!   element 8r + n of output l; then sixteen scales and sixteen minima, f16.
//! * Q8_0: thirty-two rows of sixteen bytes, byte l of row k being element k of output l; then
//!   sixteen scales, f16.

use half::f16;
use shardrun_files::TensorType;

/// Outputs in a group, lanes of a record.
pub(crate) const GROUP: usize = 16;

/// Elements of the longest block of all types.
pub(crate) const LONGEST_BLOCK: usize = 32;

/// Where the scales of a Q4_1 record begin.
pub(crate) const Q4_1_SCALES: usize = 256;
/// Where its minima begin.
pub(crate) const Q4_1_MINIMA: usize = 288;
/// Where the scales of a Q8_0 record begin.
pub(crate) const Q8_0_SCALES: usize = 512;

/// How a record stores the blocks of its lanes.
pub(crate) trait BlockType: Copy {
    /// Elements of a block.
    fn block_len(self) -> usize;

    /// Bytes of a block.
    fn block_bytes(self) -> usize;

    /// Bytes of a record.
    fn record_bytes(self) -> usize {
        GROUP * self.block_bytes()
    }

    /// Calls `each` with the elements of one lane's block in a record, in order, and their numbers.
    fn for_each_weight(self, record: &[u8], lane: usize, each: impl FnMut(usize, f32));
}

impl BlockType for TensorType {
    fn block_len(self) -> usize {
        TensorType::block_len(self)
    }

    fn block_bytes(self) -> usize {
        TensorType::block_bytes(self)
    }

    #[inline]
    fn for_each_weight(self, record: &[u8], lane: usize, mut each: impl FnMut(usize, f32)) {
        match self {
            Self::F32 => each(0, f32::from_le_bytes(item(record, 0, lane))),
            Self::F16 => each(0, half(record, 0, lane)),
            Self::Q4_1 => {
                let scale = half(record, Q4_1_SCALES, lane);
                let minimum = half(record, Q4_1_MINIMA, lane);
                for at in 0..32 {
                    let word = u32::from_le_bytes(item(record, at / 8 * 64, lane));
                    let quant = word >> (at % 8 * 4) & 0xf;
                    each(at, quant as f32 * scale + minimum);
                }
            }
            Self::Q8_0 => {
                let scale = half(record, Q8_0_SCALES, lane);
                for at in 0..32 {
                    let quant = record[at * GROUP + lane].cast_signed();
                    each(at, f32::from(quant) * scale);
                }
            }
        }
    }
}

/// Spreads the blocks of one output, `row` as a file stores it, over the records of its group.
pub(super) fn fill_lane(tensor_type: TensorType, records: &mut [u8], lane: usize, row: &[u8]) {
    let blocks = row.chunks_exact(tensor_type.block_bytes());
    for (record, block) in records.chunks_exact_mut(tensor_type.record_bytes()).zip(blocks) {
        match tensor_type {
            TensorType::F32 | TensorType::F16 => put(record, 0, lane, block),
            TensorType::Q4_1 => {
                put(record, Q4_1_SCALES, lane, &block[..2]);
                put(record, Q4_1_MINIMA, lane, &block[2..4]);
                for (at, eight) in block[4..].chunks_exact(8).enumerate() {
                    let bytes = u64::from_le_bytes(eight.try_into().expect("chunks of eight"));
                    put(record, at * 64, lane, &join_nibbles(bytes).to_le_bytes());
                    put(record, (at + 2) * 64, lane, &join_nibbles(bytes >> 4).to_le_bytes());
                }
            }
            TensorType::Q8_0 => {
                put(record, Q8_0_SCALES, lane, &block[..2]);
                for (at, &byte) in block[2..].iter().enumerate() {
                    record[at * GROUP + lane] = byte;
                }
            }
        }
    }
}

/// Writes `item` at its lane's place among sixteen items that begin at byte `first`.
fn put(record: &mut [u8], first: usize, lane: usize, item: &[u8]) {
    record[first + lane * item.len()..][..item.len()].copy_from_slice(item);
}

/// The low nibbles of eight bytes, the first one lowest.
fn join_nibbles(bytes: u64) -> u32 {
    let nibbles = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    (fours | fours >> 16) as u32
}

/// The item of one lane among sixteen that begin at byte `first`.
pub(crate) fn item<const N: usize>(record: &[u8], first: usize, lane: usize) -> [u8; N] {
    record[first + lane * N..][..N].try_into().expect("a slice of N bytes")
}

fn half(record: &[u8], first: usize, lane: usize) -> f32 {
    f16::from_le_bytes(item(record, first, lane)).to_f32()
}
