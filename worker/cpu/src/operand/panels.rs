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
        let Self { rows, count, .. } = self;
        let of_row = items.len() / rows.max(1);
        // As `rows_of`, without a division for each.
        let (least, more) = (rows / count.max(1), rows % count.max(1));
        let (mut start, mut left_over) = (0, 0);
        (0..count).map(move |_| {
            left_over += more;
            let one_more = usize::from(left_over >= count);
            left_over -= one_more * count;
            let first = start;
            start += least + one_more;
            (first..start, &items[first * of_row..start * of_row])
        })
    }

    /// The panel that holds `row`.
    pub(super) fn of_row(&self, row: usize) -> usize {
        ((row + 1) * self.count - 1) / self.rows
    }
}
