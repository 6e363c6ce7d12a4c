//! Values that become an operand's.

use std::ops::Range;

/// Some rows of a row-major matrix, or as many columns of each.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    count: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// `count` rows of the first `columns` values of every `stride`.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn new(values: &'a [f32], count: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows that don't overlap");
        assert!(count == 0 || (count - 1) * stride + columns <= values.len(), "values of all rows");
        Self { values, count, columns, stride }
    }

    /// A single row.
    #[cfg(test)]
    pub(crate) fn one(values: &'a [f32]) -> Self {
        Self::new(values, 1, values.len(), values.len())
    }

    /// How many rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Values of each row.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The values of a row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.count, "a row that there is");
        &self.values[row * self.stride..][..self.columns]
    }

    /// Some of the rows.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let Self { values, columns, stride, .. } = *self;
        Self::new(&values[(rows.start * stride).min(values.len())..], rows.len(), columns, stride)
    }
}
