//! Panels of which a kernel reads one column of all rows at a time.

use std::{marker::PhantomData, ops::Range};

use bytemuck::Pod;

use super::panels::Panels;
use crate::{
    CpuError,
    disjoint::Disjoint,
    matrix::GROUP,
    workspace::{Buffer, Workspace},
};

/// Items of 32 bits in panels of a few rows. Within a panel the rows' items of one column lie side by
/// side, so that a kernel reads one stream however many rows it multiplies.
pub(crate) struct ColumnPanels<T> {
    memory: Buffer,
    panels: Panels,
    items: PhantomData<T>,
}

impl<T: Pod> ColumnPanels<T> {
    pub(super) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
        panel_rows: usize,
    ) -> Result<Self, CpuError> {
        const { assert!(size_of::<T>() == size_of::<f32>(), "buffers count floats") };
        let panels = Panels::new(rows, columns, panel_rows);
        // Kernels may read a whole register where a panel has fewer rows.
        let memory = workspace.take(rows * columns + GROUP)?;
        Ok(Self { memory, panels, items: PhantomData })
    }

    pub(crate) fn rows(&self) -> usize {
        self.panels.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.panels.columns
    }

    /// The panels in order: which rows, and their items as `[columns][rows of the panel]`.
    pub(crate) fn panels(&self) -> impl Iterator<Item = (Range<usize>, &[T])> {
        self.panels.slices(&bytemuck::cast_slice(self.memory.as_slice())[..self.len()])
    }

    fn len(&self) -> usize {
        self.rows() * self.columns()
    }

    pub(super) fn writer(&mut self) -> ColumnWriter<'_, T> {
        let len = self.len();
        let items = &mut bytemuck::cast_slice_mut(self.memory.as_mut_slice())[..len];
        ColumnWriter { panels: self.panels, items: Disjoint::new(items) }
    }
}

/// Fills [`ColumnPanels`] from several threads.
pub(super) struct ColumnWriter<'a, T> {
    panels: Panels,
    items: Disjoint<'a, T>,
}

impl<T> ColumnWriter<'_, T> {
    /// Where the item of `row` and `column` is, and how far it is from one column to the next. There are
    /// `len` columns from there on.
    pub(super) fn pointer(&self, row: usize, column: usize, len: usize) -> (*mut T, usize) {
        assert!(column + len <= self.panels.columns, "columns within the operand");
        let rows = self.panels.rows_of(self.panels.of_row(row));
        let panel = rows.start * self.panels.columns..rows.end * self.panels.columns;
        let place = column * rows.len() + (row - rows.start);
        (self.items.pointer(panel).wrapping_add(place), rows.len())
    }

    /// Writes items of `row`, from `column` on.
    ///
    /// # Safety
    /// No other thread writes these items.
    pub(super) unsafe fn put(
        &self,
        row: usize,
        column: usize,
        items: impl ExactSizeIterator<Item = T>,
    ) {
        assert!(column + items.len() <= self.panels.columns, "columns within the operand");
        let rows = self.panels.rows_of(self.panels.of_row(row));
        let first = rows.start * self.panels.columns + column * rows.len() + (row - rows.start);
        for (at, item) in items.enumerate() {
            // SAFETY: the caller owns the item.
            unsafe { self.items.set(first + at * rows.len(), item) };
        }
    }
}
