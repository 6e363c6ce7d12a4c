//! How rows are cut into panels.

use std::ops::Range;

/// As few panels as can be, of widths that differ by at most one.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) count: usize,
}

impl Panels {
    pub(super) fn new(rows: usize, columns: usize, panel_rows: usize) -> Self {
        Self { rows, columns, count: rows.div_ceil(panel_rows) }
    }

    pub(super) fn rows_of(&self, panel: usize) -> Range<usize> {
        self.rows * panel / self.count..self.rows * (panel + 1) / self.count
    }

    /// The panels in order: which rows, and what `items` has for them, which is as many for each row.
    pub(super) fn slices<T>(self, items: &[T]) -> impl Iterator<Item = (Range<usize>, &[T])> {
        (0..self.count).map(move |panel| {
            let rows = self.rows_of(panel);
            let of_row = items.len() / self.rows;
            (rows.clone(), &items[rows.start * of_row..rows.end * of_row])
        })
    }

    /// The panel that holds `row`.
    pub(super) fn of_row(&self, row: usize) -> usize {
        ((row + 1) * self.count - 1) / self.rows
    }
}
