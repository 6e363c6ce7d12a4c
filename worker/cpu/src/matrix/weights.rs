//! Weights as a kernel reads them: some groups in runs of one type.

use std::ops::Range;

use super::quants::{GROUP, QuantType, Quants, with_quants};

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

/// Groups that follow each other, as a kernel reads them: in runs of one type.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a, T> {
    pub(crate) block_type: T,
    /// From the first record of the first group on.
    pub(crate) records: &'a [u8],
    pub(crate) groups: usize,
    /// Inputs to multiply with, a whole number of blocks.
    pub(crate) inputs: usize,
    /// Bytes from one group to the next.
    pub(crate) group_bytes: usize,
}

/// Quantised groups that follow each other.
#[derive(Clone)]
pub(crate) struct QuantWeights<'a> {
    pub(crate) quant_type: QuantType,
    /// From the first record of the first group on.
    pub(crate) records: &'a [u8],
    pub(crate) groups: usize,
    /// Sub-blocks of a group that take part.
    pub(crate) sub_blocks: Range<usize>,
    /// Bytes from one group to the next.
    pub(crate) group_bytes: usize,
}

impl<'a, T: BlockType> Weights<'a, T> {
    /// Panics unless all records are there, which kernels rely on.
    pub(crate) fn check(&self) {
        let group = self.inputs / self.block_type.block_len() * self.block_type.record_bytes();
        assert!(self.inputs.is_multiple_of(self.block_type.block_len()), "whole blocks");
        let end = self.groups.checked_sub(1).map_or(0, |last| last * self.group_bytes + group);
        assert!(end <= self.records.len(), "records of all groups");
    }

    /// The records of one group.
    pub(crate) fn group(&self, group: usize) -> impl Iterator<Item = &'a [u8]> + use<'a, T> {
        let blocks = self.inputs / self.block_type.block_len();
        self.records[group * self.group_bytes..]
            .chunks_exact(self.block_type.record_bytes())
            .take(blocks)
    }
}

impl QuantWeights<'_> {
    /// Panics unless all records are there, which kernels rely on.
    pub(crate) fn check(&self) {
        let record = with_quants!(self.quant_type, Q => {
            self.sub_blocks.end.div_ceil(Q::SUB_BLOCKS) * Q::RECORD
        });
        let end = self.groups.checked_sub(1).map_or(0, |last| last * self.group_bytes + record);
        assert!(end <= self.records.len(), "records of all groups");
    }
}
