//! The float32 form.

use std::ops::Range;

use super::panels::Panels;
use crate::{
    CpuError,
    disjoint::Disjoint,
    workspace::{Buffer, Workspace},
};

/// Float32 activations in panels of a few rows. Within a panel the rows' values of one column lie side by
/// side, so that a kernel reads one stream however many rows it multiplies.
pub(crate) struct FloatPanels {
    values: Buffer,
    panels: Panels,
}

impl FloatPanels {
    pub(super) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
        panel_rows: usize,
    ) -> Result<Self, CpuError> {
        let panels = Panels::new(rows, columns, panel_rows);
        Ok(Self { values: workspace.take(rows * columns)?, panels })
    }

    /// The panels in order: which rows, and their values as `[columns][rows of the panel]`.
    pub(crate) fn panels(&self) -> impl Iterator<Item = (Range<usize>, &[f32])> {
        (0..self.panels.count).map(|panel| {
            let rows = self.panels.rows_of(panel);
            let columns = self.panels.columns;
            (rows.clone(), &self.values.as_slice()[rows.start * columns..rows.end * columns])
        })
    }

    pub(super) fn writer(&mut self) -> FloatWriter<'_> {
        FloatWriter { panels: self.panels, values: Disjoint::new(self.values.as_mut_slice()) }
    }
}

/// Fills [`FloatPanels`] from several threads.
pub(super) struct FloatWriter<'a> {
    panels: Panels,
    values: Disjoint<'a, f32>,
}

impl FloatWriter<'_> {
    /// Writes `values` to `row`, from `column` on.
    ///
    /// # Safety
    /// No other thread writes these elements.
    pub(super) unsafe fn put(&self, row: usize, column: usize, values: &[f32]) {
        let rows = self.panels.rows_of(self.panels.of_row(row));
        let first = rows.start * self.panels.columns + column * rows.len() + (row - rows.start);
        assert!(column + values.len() <= self.panels.columns, "columns within the operand");
        for (at, &value) in values.iter().enumerate() {
            // SAFETY: the caller owns the element.
            unsafe { self.values.set(first + at * rows.len(), value) };
        }
    }
}
