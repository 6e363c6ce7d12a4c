//! Weight matrices in memory, in the order that the kernels read.
//!
//! Sixteen outputs that follow each other make a group, so that a vector register has an output in every
//! lane and each output is added up along the inputs by itself. Quantised weights stay as they are in
//! the file, bit for bit; only their order changes.

pub(crate) mod floats;
mod pack;
pub(crate) mod quants;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod weights;

use std::ops::Range;

use shardrun_files::MatrixView;

use crate::{
    CpuError, Kernels,
    kernels::Plane,
    memory::{Arena, LINE_BYTES, Memory},
    pool::Pool,
};

pub(crate) use floats::FloatType;
pub(crate) use quants::{GROUP, QuantType, SUB_BLOCK};
pub(crate) use weights::{BlockType, QuantWeights, Weights};

use quants::{Quants, Stored, with_quants};

/// A weight matrix `[outputs, inputs]`, packed for the kernels.
pub struct Matrix {
    memory: Memory,
    segments: Vec<Segment>,
    outputs: usize,
    inputs: usize,
}

/// Outputs that follow each other and are stored alike; every part of them begins with a group.
struct Segment {
    layout: Layout,
    outputs: Range<usize>,
    /// Of all groups of the matrix.
    groups: Range<usize>,
    first_byte: usize,
    group_bytes: usize,
}

/// How the groups of a segment are stored.
#[derive(Clone, PartialEq, Eq)]
enum Layout {
    Floats(FloatType),
    /// The sub-blocks of a group that hold the matrix's inputs.
    Quants(QuantType, Range<usize>),
}

/// Groups of a matrix that are stored alike.
pub(crate) enum Run<'a> {
    Floats(Weights<'a, FloatType>),
    Quants(QuantWeights<'a>),
}

impl Run<'_> {
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Floats(weights) => weights.groups,
            Self::Quants(weights) => weights.groups,
        }
    }

    pub(crate) fn inputs(&self) -> usize {
        match self {
            Self::Floats(weights) => weights.inputs,
            Self::Quants(weights) => weights.sub_blocks.len() * SUB_BLOCK,
        }
    }

    /// Panics unless all records are there, which kernels rely on.
    pub(crate) fn check(&self) {
        match self {
            Self::Floats(weights) => weights.check(),
            Self::Quants(weights) => weights.check(),
        }
    }
}

impl Layout {
    /// The layout for `part`, which has rows.
    fn of(part: &MatrixView<'_>) -> Self {
        match quants::stored(part.tensor_type()) {
            Stored::Floats(floats) => Self::Floats(floats),
            Stored::Quants(quants) => {
                let first = part.row_blocks(0).first / SUB_BLOCK;
                Self::Quants(quants, first..first + part.columns() / SUB_BLOCK)
            }
        }
    }

    /// Bytes of a group of `inputs`.
    fn group_bytes(&self, inputs: usize) -> usize {
        match self {
            Self::Floats(floats) => inputs * floats.record_bytes(),
            Self::Quants(quants, sub_blocks) => with_quants!(quants, Q => {
                sub_blocks.end.div_ceil(Q::SUB_BLOCKS) * Q::RECORD
            }),
        }
    }
}

impl Matrix {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Packs `parts`, stacked by rows, into memory of `arena`.
    ///
    /// # Panics
    /// If their column counts differ.
    pub(crate) fn pack(
        parts: &[MatrixView<'_>],
        arena: &mut Arena,
        pool: &mut Pool,
    ) -> Result<Self, CpuError> {
        let inputs = parts.first().map_or(0, MatrixView::columns);
        assert!(parts.iter().all(|part| part.columns() == inputs), "parts of equal columns");
        let (segments, bytes) = lay_out(parts, inputs);
        let memory = arena.take("weights", bytes)?;
        let outputs = parts.iter().map(MatrixView::rows).sum();
        let mut matrix = Self { memory, segments, outputs, inputs };
        matrix.fill(parts, pool);
        Ok(matrix)
    }

    fn fill(&mut self, parts: &[MatrixView<'_>], pool: &mut Pool) {
        let bytes = self.memory.as_mut_slice();
        for segment in &self.segments {
            let group_bytes = segment.group_bytes;
            let groups = &mut bytes[segment.first_byte..][..segment.groups.len() * group_bytes];
            pool.for_each_chunk(pool.threads(), groups, group_bytes.max(1), |group, records| {
                for lane in 0..GROUP {
                    let output = segment.outputs.start + group * GROUP + lane;
                    if output >= segment.outputs.end {
                        continue;
                    }
                    let (part, row) = place(parts, output);
                    match segment.layout {
                        Layout::Floats(floats) => {
                            pack::float_lane(floats.block_bytes(), records, lane, part.row(row));
                        }
                        Layout::Quants(quants, _) => {
                            pack::quant_lane(quants, records, lane, part.row_blocks(row));
                        }
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

    /// Whether some of its weights are floats.
    pub(crate) fn has_floats(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment.layout, Layout::Floats(_)))
    }

    /// Whether some of its weights are quantised.
    pub(crate) fn has_quants(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment.layout, Layout::Quants(..)))
    }

    /// Number of groups.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> usize {
        self.segments.last().map_or(0, |last| last.groups.end)
    }

    /// The groups that are thread `thread`'s of `threads`: shares of about as many bytes.
    pub(crate) fn share(&self, thread: usize, threads: usize) -> Range<usize> {
        self.group_at(thread, threads)..self.group_at(thread + 1, threads)
    }

    /// The group in which `part` of `parts` equal parts of all bytes end.
    fn group_at(&self, part: usize, parts: usize) -> usize {
        if part == 0 {
            return 0;
        }
        let total: usize = self.segments.iter().map(Segment::bytes).sum();
        let mut left = (total as u128 * part as u128 / parts as u128) as usize;
        for segment in &self.segments {
            if left < segment.bytes() {
                return segment.groups.start + left.div_ceil(segment.group_bytes);
            }
            left -= segment.bytes();
        }
        self.segments.last().map_or(0, |last| last.groups.end)
    }

    /// The outputs that the groups of `range` hold.
    pub(crate) fn outputs_of(&self, range: Range<usize>) -> Range<usize> {
        self.first_output(range.start)..self.first_output(range.end)
    }

    /// The groups that hold `outputs`, which begin with one and end with one, or with a part.
    ///
    /// # Panics
    /// If they don't.
    pub(crate) fn groups_of(&self, outputs: Range<usize>) -> Range<usize> {
        let segments = self.segments.iter();
        let group_at = |output: usize| {
            let segment = segments.clone().find(|segment| segment.outputs.contains(&output));
            segment.map_or(self.segments.last().map_or(0, |last| last.groups.end), |segment| {
                let place = output - segment.outputs.start;
                assert!(place.is_multiple_of(GROUP), "the first output of a group");
                segment.groups.start + place / GROUP
            })
        };
        group_at(outputs.start)..group_at(outputs.end)
    }

    /// The first output of a group; one past the last output for one past the last group.
    fn first_output(&self, group: usize) -> usize {
        let segment = self.segments.iter().find(|segment| segment.groups.contains(&group));
        segment.map_or(self.outputs, |segment| {
            segment.outputs.start + (group - segment.groups.start) * GROUP
        })
    }

    /// The groups of `range`, in runs of one layout, each with the outputs that it holds.
    pub(crate) fn runs(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (Run<'_>, Range<usize>)> {
        self.segments.iter().filter_map(move |segment| {
            let start = range.start.max(segment.groups.start);
            let end = range.end.min(segment.groups.end);
            (start < end).then(|| {
                let first = start - segment.groups.start;
                let first_output = segment.outputs.start + first * GROUP;
                let last_output = (first_output + (end - start) * GROUP).min(segment.outputs.end);
                (self.run(segment, first, end - start), first_output..last_output)
            })
        })
    }

    /// Writes row `row` of the matrix, dequantised, to `values`.
    pub(crate) fn dequantise_row(&self, kernels: Kernels, row: usize, values: &mut [f32]) {
        let segment = self.segments.iter().find(|segment| segment.outputs.contains(&row));
        let segment = segment.expect("a row of the matrix is in a segment");
        let place = row - segment.outputs.start;
        let lane = place % GROUP;
        match self.run(segment, place / GROUP, 1) {
            Run::Floats(weights) => {
                for (record, value) in weights.group(0).zip(values) {
                    weights.block_type.for_each_weight(record, lane, |_, weight| *value = weight);
                }
            }
            Run::Quants(weights) => {
                let mut plane = [Plane::default()];
                for (sub_block, values) in
                    weights.sub_blocks.clone().zip(values.chunks_mut(SUB_BLOCK))
                {
                    kernels.unpack(&weights, 0, sub_block..sub_block + 1, &mut plane);
                    plane[0].lane(lane, values);
                }
            }
        }
    }

    fn run(&self, segment: &Segment, first: usize, groups: usize) -> Run<'_> {
        let group_bytes = segment.group_bytes;
        let bytes = self.memory.as_slice();
        let records = &bytes[segment.first_byte + first * group_bytes..][..groups * group_bytes];
        match &segment.layout {
            &Layout::Floats(block_type) => {
                let inputs = self.inputs;
                Run::Floats(Weights { block_type, records, groups, inputs, group_bytes })
            }
            Layout::Quants(quant_type, sub_blocks) => Run::Quants(QuantWeights {
                quant_type: *quant_type,
                records,
                groups,
                sub_blocks: sub_blocks.clone(),
                group_bytes,
            }),
        }
    }
}

impl Segment {
    fn bytes(&self) -> usize {
        self.groups.len() * self.group_bytes
    }
}

/// The segments of the stacked parts, and the bytes that they take together.
fn lay_out(parts: &[MatrixView<'_>], inputs: usize) -> (Vec<Segment>, usize) {
    let mut segments: Vec<Segment> = Vec::new();
    let mut outputs = 0;
    for part in parts.iter().filter(|part| part.rows() > 0) {
        let end = outputs + part.rows();
        let layout = Layout::of(part);
        match segments.last_mut() {
            // Every part begins with a group.
            Some(last) if last.layout == layout && last.outputs.len().is_multiple_of(GROUP) => {
                last.outputs.end = end;
            }
            _ => segments.push(Segment {
                group_bytes: layout.group_bytes(inputs),
                layout,
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
        bytes += segment.bytes();
        bytes = bytes.next_multiple_of(LINE_BYTES);
    }
    (segments, bytes)
}

/// The part of the stacked parts that row `row` of all is in, and its row there.
fn place<'a, 'b>(parts: &'b [MatrixView<'a>], mut row: usize) -> (&'b MatrixView<'a>, usize) {
    for part in parts {
        if row < part.rows() {
            return (part, row);
        }
        row -= part.rows();
    }
    unreachable!("segments have as many outputs as the parts have rows")
}
