//! Weight matrices in memory: quantised as in the file, in the order that the kernels read.
//!
//! Sixteen outputs that follow each other make a group. A group is a sequence of records along the
//! inputs, each holding one block of every output of the group, so that a vector register has an
//! output in every lane and each output is added up along the inputs by itself.

pub(crate) mod records;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::ops::Range;

use shardrun_files::{MatrixView, TensorType};
use shardrun_model::CacheType;

use crate::{
    CpuError,
    memory::{LINE_BYTES, Line, zeroed},
    pool::Pool,
};

pub(crate) use records::{BlockType, GROUP, LONGEST_BLOCK};

/// A weight matrix `[outputs, inputs]`, packed for the kernels.
pub struct Matrix {
    memory: Vec<Line>,
    segments: Vec<Segment>,
    outputs: usize,
    inputs: usize,
}

/// Outputs that follow each other and are stored alike; they begin with a group of their own.
struct Segment {
    tensor_type: TensorType,
    outputs: Range<usize>,
    /// Of all groups of the matrix.
    groups: Range<usize>,
    first_byte: usize,
}

/// Groups that follow each other, as a kernel reads them: of a matrix, or of the cache.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a, T = TensorType> {
    pub(crate) block_type: T,
    /// From the first record of the first group on.
    pub(crate) records: &'a [u8],
    pub(crate) groups: usize,
    /// Inputs to multiply with, a whole number of blocks.
    pub(crate) inputs: usize,
    /// Bytes from one group to the next.
    pub(crate) group_bytes: usize,
}

impl<'a> Weights<'a, CacheType> {
    /// Groups of lanes that are `group_inputs` long, the first `inputs` of which take part.
    pub(crate) fn lanes(
        block_type: CacheType,
        records: &'a [u8],
        groups: usize,
        inputs: usize,
        group_inputs: usize,
    ) -> Self {
        let group_bytes = group_inputs * block_type.record_bytes();
        Self { block_type, records, groups, inputs, group_bytes }
    }
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

impl Matrix {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.memory[..])
    }

    /// Packs `parts`, stacked by rows.
    ///
    /// # Panics
    /// If their column counts differ.
    pub(crate) fn pack(parts: &[MatrixView<'_>], pool: &mut Pool) -> Result<Self, CpuError> {
        let inputs = parts.first().map_or(0, MatrixView::columns);
        assert!(parts.iter().all(|part| part.columns() == inputs), "parts of equal columns");
        let (segments, bytes) = lay_out(parts, inputs);
        let memory = zeroed("weights", bytes)?;
        let outputs = parts.iter().map(MatrixView::rows).sum();
        let mut matrix = Self { memory, segments, outputs, inputs };
        matrix.fill(parts, pool);
        Ok(matrix)
    }

    fn fill(&mut self, parts: &[MatrixView<'_>], pool: &mut Pool) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory);
        for segment in &self.segments {
            let group_bytes = group_bytes(segment.tensor_type, self.inputs);
            let groups = &mut bytes[segment.first_byte..][..segment.groups.len() * group_bytes];
            pool.for_each_chunk(pool.threads(), groups, group_bytes.max(1), |group, records| {
                for lane in 0..GROUP {
                    let output = segment.outputs.start + group * GROUP + lane;
                    if output < segment.outputs.end {
                        records::fill_lane(segment.tensor_type, records, lane, row(parts, output));
                    }
                }
            });
        }
    }

    /// Rows of the matrix: outputs of a linear layer, or tokens of an embedding.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of groups, by which work is cut.
    pub(crate) fn groups(&self) -> usize {
        self.segments.last().map_or(0, |last| last.groups.end)
    }

    /// The groups of `range`, in runs of one type, each with the outputs that it holds.
    pub(crate) fn runs(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (Weights<'_>, Range<usize>)> {
        self.segments.iter().filter_map(move |segment| {
            let start = range.start.max(segment.groups.start);
            let end = range.end.min(segment.groups.end);
            (start < end).then(|| {
                let first = start - segment.groups.start;
                let first_output = segment.outputs.start + first * GROUP;
                let last_output = (first_output + (end - start) * GROUP).min(segment.outputs.end);
                (self.weights(segment, first, end - start), first_output..last_output)
            })
        })
    }

    /// Writes row `row` of the matrix, dequantised, to `values`.
    pub(crate) fn dequantise_row(&self, row: usize, values: &mut [f32]) {
        let segment = self.segments.iter().find(|segment| segment.outputs.contains(&row));
        let segment = segment.expect("a row of the matrix is in a segment");
        let place = row - segment.outputs.start;
        let weights = self.weights(segment, place / GROUP, 1);
        let block = segment.tensor_type.block_len();
        for (record, values) in weights.group(0).zip(values.chunks_exact_mut(block)) {
            segment.tensor_type.for_each_weight(record, place % GROUP, |at, weight| {
                values[at] = weight;
            });
        }
    }

    fn weights(&self, segment: &Segment, first: usize, groups: usize) -> Weights<'_> {
        let group_bytes = group_bytes(segment.tensor_type, self.inputs);
        let bytes: &[u8] = bytemuck::cast_slice(&self.memory);
        let records = &bytes[segment.first_byte + first * group_bytes..][..groups * group_bytes];
        Weights {
            block_type: segment.tensor_type,
            records,
            groups,
            inputs: self.inputs,
            group_bytes,
        }
    }
}

/// The segments of the stacked parts, and the bytes that they take together.
fn lay_out(parts: &[MatrixView<'_>], inputs: usize) -> (Vec<Segment>, usize) {
    let mut segments: Vec<Segment> = Vec::new();
    let mut outputs = 0;
    for part in parts.iter().filter(|part| part.rows() > 0) {
        let end = outputs + part.rows();
        match segments.last_mut() {
            Some(last) if last.tensor_type == part.tensor_type() => last.outputs.end = end,
            _ => segments.push(Segment {
                tensor_type: part.tensor_type(),
                outputs: outputs..end,
                groups: 0..0,
                first_byte: 0,
            }),
        }
        outputs = end;
    }
    let (mut groups, mut bytes) = (0, 0usize);
    for segment in &mut segments {
        segment.groups = groups..groups + segment.outputs.len().div_ceil(GROUP);
        segment.first_byte = bytes;
        groups = segment.groups.end;
        bytes += segment.groups.len() * group_bytes(segment.tensor_type, inputs);
        bytes = bytes.next_multiple_of(LINE_BYTES);
    }
    (segments, bytes)
}

fn group_bytes(tensor_type: TensorType, inputs: usize) -> usize {
    inputs / tensor_type.block_len() * tensor_type.record_bytes()
}

/// Row `row` of the stacked parts, as it is stored.
fn row<'a>(parts: &[MatrixView<'a>], mut row: usize) -> &'a [u8] {
    for part in parts {
        if row < part.rows() {
            return part.row(row);
        }
        row -= part.rows();
    }
    unreachable!("segments have as many outputs as the parts have rows")
}
