//! From rows as files store them to the groups that kernels read.

use shardrun_files::{RowBlocks, StoredScales, TensorType, decode_sub_block, stored_scales};

use super::quants::{GROUP, NIBBLE_BYTES, QuantType, Quants, SUB_BLOCK, VECTOR_BYTES, with_quants};

/// Spreads one output's numbers over its group, one record of sixteen an input.
pub(super) fn float_lane(number_bytes: usize, group: &mut [u8], lane: usize, row: &[u8]) {
    let numbers = row.chunks_exact(number_bytes);
    for (record, number) in group.chunks_exact_mut(GROUP * number_bytes).zip(numbers) {
        put(record, 0, lane, number);
    }
}

/// Spreads one output's blocks over the records of its group.
pub(super) fn quant_lane(quants: QuantType, group: &mut [u8], lane: usize, row: RowBlocks<'_>) {
    with_quants!(quants, Q => lane_of::<Q>(quants.tensor_type(), group, lane, row));
}

fn lane_of<Q: Quants>(tensor_type: TensorType, group: &mut [u8], lane: usize, row: RowBlocks<'_>) {
    let blocks = row.bytes.chunks_exact(tensor_type.block_bytes());
    for (record, block) in group.chunks_exact_mut(Q::RECORD).zip(blocks) {
        for sub in 0..Q::SUB_BLOCKS {
            let scales = stored_scales(tensor_type, block, sub);
            let (header, sub_block) = record.split_at_mut(Q::HEADER);
            put_quants::<Q>(
                &mut sub_block[sub * Q::SUB_BLOCK_BYTES..][..Q::SUB_BLOCK_BYTES],
                lane,
                &decode_sub_block(tensor_type, block, sub).quants,
            );
            put_scales::<Q>(
                header,
                &mut sub_block[sub * Q::SUB_BLOCK_BYTES..][..Q::SUB_BLOCK_BYTES],
                lane,
                &scales,
            );
        }
    }
}

fn put_quants<Q: Quants>(sub_block: &mut [u8], lane: usize, quants: &[u8; SUB_BLOCK]) {
    let (words, _) = quants.as_chunks::<4>();
    if Q::BITS == 8 {
        for (vector, word) in words.iter().enumerate() {
            put(sub_block, vector * VECTOR_BYTES, lane, word);
        }
        return;
    }
    for vector in 0..4 {
        let (low, high) =
            (u32::from_le_bytes(words[vector]), u32::from_le_bytes(words[vector + 4]));
        let nibbles = low & 0x0f0f_0f0f | (high & 0x0f0f_0f0f) << 4;
        put(sub_block, vector * VECTOR_BYTES, lane, &nibbles.to_le_bytes());
    }
    for (vector, word) in words.iter().enumerate() {
        match Q::BITS {
            5 => {
                let bits = word.iter().rev().fold(0, |bits, quant| bits << 1 | quant >> 4);
                let byte = &mut sub_block[NIBBLE_BYTES + vector * 8 + lane / 2];
                *byte |= bits << (lane % 2 * 4);
            }
            6 => {
                let first = NIBBLE_BYTES + vector / 4 * VECTOR_BYTES + lane * 4;
                for (byte, quant) in sub_block[first..first + 4].iter_mut().zip(word) {
                    *byte |= quant >> 4 << (vector % 4 * 2);
                }
            }
            _ => {}
        }
    }
}

fn put_scales<Q: Quants>(
    header: &mut [u8],
    sub_block: &mut [u8],
    lane: usize,
    scales: &StoredScales,
) {
    if !Q::SUPER {
        put(sub_block, Q::SCALES, lane, &scales.d);
        if Q::MINIMA {
            put(sub_block, Q::MORE_SCALES, lane, &scales.m);
        }
        return;
    }
    put(header, 0, lane, &scales.d);
    put(sub_block, Q::SCALES, lane, &scales.scales[..1]);
    if Q::MINIMA {
        put(header, 2 * GROUP, lane, &scales.m);
        put(sub_block, Q::MORE_SCALES, lane, &[scales.minimum]);
    } else {
        put(sub_block, Q::MORE_SCALES, lane, &scales.scales[1..]);
    }
}

/// Writes `item` at its lane's place among sixteen items that begin at byte `first`.
fn put(record: &mut [u8], first: usize, lane: usize, item: &[u8]) {
    record[first + lane * item.len()..][..item.len()].copy_from_slice(item);
}
