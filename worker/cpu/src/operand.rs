//! Activations as a linear layer reads them.

use std::ops::Range;

use crate::{
    CpuError,
    disjoint::Disjoint,
    workspace::{Buffer, Workspace},
};

/// Float32 activations `[rows, columns]`, cut into panels of a few rows. Within a panel the rows'
/// values of one column lie side by side, so that a kernel reads one stream however many rows it
/// multiplies.
pub struct Operand {
    values: Buffer,
    panels: Panels,
}

/// How rows are cut into panels: as few panels as can be, of widths that differ by at most one.
#[derive(Clone, Copy)]
struct Panels {
    rows: usize,
    columns: usize,
    count: usize,
}

impl Panels {
    fn rows_of(&self, panel: usize) -> Range<usize> {
        self.rows * panel / self.count..self.rows * (panel + 1) / self.count
    }

    /// The panel that holds `row`.
    fn of_row(&self, row: usize) -> usize {
        ((row + 1) * self.count - 1) / self.rows
    }
}

impl Operand {
    /// An operand whose every element is still to be written, in panels of at most `panel_rows`.
    pub(crate) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
        panel_rows: usize,
    ) -> Result<Self, CpuError> {
        let panels = Panels { rows, columns, count: rows.div_ceil(panel_rows) };
        Ok(Self { values: workspace.take(rows * columns)?, panels })
    }

    pub(crate) fn rows(&self) -> usize {
        self.panels.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.panels.columns
    }

    /// The panels in order: which rows, and their values as `[columns][rows of the panel]`.
    pub(crate) fn panels(&self) -> impl Iterator<Item = (Range<usize>, &[f32])> {
        (0..self.panels.count).map(|panel| {
            let rows = self.panels.rows_of(panel);
            let columns = self.panels.columns;
            (rows.clone(), &self.values.as_slice()[rows.start * columns..rows.end * columns])
        })
    }

    /// A way for several threads to fill it.
    pub(crate) fn writer(&mut self) -> OperandWriter<'_> {
        OperandWriter { panels: self.panels, values: Disjoint::new(self.values.as_mut_slice()) }
    }
}

/// Fills an [`Operand`] from several threads.
pub(crate) struct OperandWriter<'a> {
    panels: Panels,
    values: Disjoint<'a, f32>,
}

impl OperandWriter<'_> {
    /// Writes `values` to `row`, from `column` on.
    ///
    /// # Safety
    /// No other thread writes these elements.
    pub(crate) unsafe fn put(&self, row: usize, column: usize, values: &[f32]) {
        let rows = self.panels.rows_of(self.panels.of_row(row));
        let first = rows.start * self.panels.columns + column * rows.len() + (row - rows.start);
        assert!(column + values.len() <= self.panels.columns, "columns within the operand");
        for (at, &value) in values.iter().enumerate() {
            // SAFETY: the caller owns the element.
            unsafe { self.values.set(first + at * rows.len(), value) };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_in_the_panels() {
        for rows in 0..40 {
            let columns = 3;
            let mut operand = Operand::new(&Workspace::default(), rows, columns, 8).unwrap();
            let writer = operand.writer();
            for row in 0..rows {
                let value = |column: usize| (row * columns + column) as f32;
                // SAFETY: there is one thread.
                unsafe { writer.put(row, 0, &[value(0)]) };
                // SAFETY: as above.
                unsafe { writer.put(row, 1, &[value(1), value(2)]) };
            }
            let mut next = 0;
            for (panel, values) in operand.panels() {
                assert_eq!(panel.start, next);
                assert!((1..=8).contains(&panel.len()));
                for row in panel.clone() {
                    for column in 0..columns {
                        let value = values[column * panel.len() + row - panel.start];
                        assert_eq!(value, (row * columns + column) as f32);
                    }
                }
                next = panel.end;
            }
            assert_eq!(next, rows);
        }
    }
}
