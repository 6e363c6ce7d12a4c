//! The bfloat16 form.

use std::ops::Range;

use half::{bf16, slice::HalfFloatSliceExt};

use super::panels::Panels;
use crate::{
    CpuError,
    disjoint::Disjoint,
    matrix::SUB_BLOCK,
    workspace::{Buffer, Workspace},
};

/// Activations rounded to bfloat16, in panels of a few rows. Two columns that follow each other are a
/// pair, in one word, the first in its lower half; after an odd last column comes a zero. Within a panel
/// the rows' words of one pair lie side by side, so that a kernel reads one stream.
pub(crate) struct PairPanels {
    words: Buffer,
    /// Its columns are pairs.
    panels: Panels,
}

impl PairPanels {
    pub(super) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
        panel_rows: usize,
    ) -> Result<Self, CpuError> {
        let panels = Panels::new(rows, columns.div_ceil(2), panel_rows);
        Ok(Self { words: workspace.take(rows * panels.columns)?, panels })
    }

    pub(crate) fn rows(&self) -> usize {
        self.panels.rows
    }

    /// Pairs of columns.
    pub(crate) fn pairs(&self) -> usize {
        self.panels.columns
    }

    /// The panels in order: which rows, and their words as `[pairs][rows of the panel]`.
    pub(crate) fn panels(&self) -> impl Iterator<Item = (Range<usize>, &[u32])> {
        let words: &[u32] = bytemuck::cast_slice(self.words.as_slice());
        (0..self.panels.count).map(move |panel| {
            let rows = self.panels.rows_of(panel);
            let pairs = self.panels.columns;
            (rows.clone(), &words[rows.start * pairs..rows.end * pairs])
        })
    }

    pub(super) fn writer(&mut self) -> PairWriter<'_> {
        let words = bytemuck::cast_slice_mut(self.words.as_mut_slice());
        PairWriter { panels: self.panels, words: Disjoint::new(words) }
    }
}

/// Fills [`PairPanels`] from several threads.
pub(super) struct PairWriter<'a> {
    panels: Panels,
    words: Disjoint<'a, u32>,
}

impl PairWriter<'_> {
    /// Writes `values` to `row`, from `column` on, which is even; an odd number of them ends the row.
    ///
    /// # Safety
    /// No other thread writes these elements.
    pub(super) unsafe fn put(&self, row: usize, column: usize, values: &[f32]) {
        assert!(column.is_multiple_of(2), "the first column of a pair");
        assert!(column / 2 + values.len().div_ceil(2) <= self.panels.columns, "in the operand");
        let rows = self.panels.rows_of(self.panels.of_row(row));
        let width = rows.len();
        let mut at = rows.start * self.panels.columns + column / 2 * width + (row - rows.start);
        for values in values.chunks(SUB_BLOCK) {
            let mut rounded = [bf16::ZERO; SUB_BLOCK];
            rounded[..values.len()].convert_from_f32_slice(values);
            let (pairs, _) = rounded.as_chunks::<2>();
            for [first, second] in &pairs[..values.len().div_ceil(2)] {
                let word = u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16;
                // SAFETY: the caller owns the elements.
                unsafe { self.words.set(at, word) };
                at += width;
            }
        }
    }
}
