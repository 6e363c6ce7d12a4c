//! The quantised form: of every thirty-two elements of a row, whole numbers from -127 to 127 and the scale
//! that they are to be multiplied with.

use std::{marker::PhantomData, ops::Range};

use super::panels::Panels;
use crate::{
    CpuError,
    disjoint::Disjoint,
    matrix::SUB_BLOCK,
    workspace::{Buffer, Workspace},
};

/// Bytes of one row's thirty-two elements: the quants, and four words.
pub(crate) const TOKEN_BYTES: usize = SUB_BLOCK + 4 * size_of::<f32>();

/// Quantised activations in panels of a few rows. A panel of C rows is a record for every sub-block of
/// the columns:
///
/// * C times thirty-two quants, i8;
/// * C scales, f32: the greatest magnitude by 127;
/// * C sums of the quants, each times its scale, f32;
/// * C sums of the first sixteen quants, times -128, i32;
/// * C sums of the other sixteen, times -128, i32.
pub(crate) struct QuantPanels {
    memory: Buffer,
    panels: Panels,
}

/// Where the quants of some columns of some rows of a panel go.
pub(crate) struct QuantRows<'a> {
    /// The first of these columns' records.
    first: *mut u8,
    /// Rows of the panel.
    width: usize,
    /// The rows' places in the panel.
    places: Range<usize>,
    sub_blocks: usize,
    memory: PhantomData<&'a mut [u8]>,
}

/// One row's thirty-two elements.
#[derive(Clone, Copy)]
pub(crate) struct QuantToken {
    scale: f32,
    /// Of the first and of the second half.
    sums: [i32; 2],
}

impl QuantToken {
    /// What thirty-two elements are multiplied with, of which `greatest` is the greatest magnitude.
    #[inline(always)]
    pub(crate) fn factor(greatest: f32) -> f32 {
        /// Where the greatest magnitude of thirty-two activations is not above this, they are taken for zeros.
        const LEAST_GREATEST: f32 = 1e-30;
        if greatest > LEAST_GREATEST { 127.0 / greatest } else { 0.0 }
    }

    /// What belongs to quants of which the sums of both halves are `sums`, where the `greatest` magnitude
    /// became 127. If that is not finite the scale is not a number, so that a fault upstream stays
    /// visible.
    #[inline(always)]
    pub(crate) fn new(greatest: f32, sums: [i32; 2]) -> Self {
        let scale = if greatest.is_finite() { greatest / 127.0 } else { f32::NAN };
        Self { scale, sums }
    }
}

impl QuantPanels {
    pub(super) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
        panel_rows: usize,
    ) -> Result<Self, CpuError> {
        let panels = Panels::new(rows, columns, panel_rows);
        let bytes = rows * columns / SUB_BLOCK * TOKEN_BYTES;
        Ok(Self { memory: workspace.take(bytes / size_of::<f32>())?, panels })
    }

    pub(crate) fn rows(&self) -> usize {
        self.panels.rows
    }

    /// How many panels there are.
    pub(crate) fn panel_count(&self) -> usize {
        self.panels.count
    }

    pub(crate) fn columns(&self) -> usize {
        self.panels.columns
    }

    /// The panels in order: which rows, and their records.
    pub(crate) fn panels(&self) -> impl Iterator<Item = (Range<usize>, &[u8])> {
        self.panels.slices(bytemuck::cast_slice(self.memory.as_slice()))
    }

    pub(super) fn writer(&mut self) -> QuantWriter<'_> {
        let memory = bytemuck::cast_slice_mut(self.memory.as_mut_slice());
        QuantWriter { panels: self.panels, memory: Disjoint::new(memory) }
    }
}

/// Fills [`QuantPanels`] from several threads.
pub(super) struct QuantWriter<'a> {
    panels: Panels,
    memory: Disjoint<'a, u8>,
}

impl<'a> QuantWriter<'a> {
    /// The places of `len` elements of `rows` from `column` on, both multiples of 32: of the rows of one panel
    /// after the other.
    ///
    /// # Safety
    /// No other thread writes these elements while a result lives, and a result is used once.
    pub(super) unsafe fn places(
        &self,
        mut rows: Range<usize>,
        column: usize,
        len: usize,
    ) -> impl Iterator<Item = (Range<usize>, QuantRows<'a>)> {
        let Panels { columns, .. } = self.panels;
        assert!(column.is_multiple_of(SUB_BLOCK) && len.is_multiple_of(SUB_BLOCK), "sub-blocks");
        assert!(column + len <= columns, "columns within the operand");
        std::iter::from_fn(move || {
            let start = (!rows.is_empty()).then_some(rows.start)?;
            let panel = self.panels.rows_of(self.panels.of_row(start));
            let end = rows.end.min(panel.end);
            rows.start = end;
            let width = panel.len();
            let first = (panel.start * columns + column * width) / SUB_BLOCK * TOKEN_BYTES;
            let bytes = len / SUB_BLOCK * TOKEN_BYTES * width;
            let places = QuantRows {
                first: self.memory.pointer(first..first + bytes),
                width,
                places: start - panel.start..end - panel.start,
                sub_blocks: len / SUB_BLOCK,
                memory: PhantomData,
            };
            Some((start..end, places))
        })
    }
}

impl QuantRows<'_> {
    /// Rows that there is room for.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Sub-blocks of each.
    pub(crate) fn sub_blocks(&self) -> usize {
        self.sub_blocks
    }

    /// Where the quants of a row's sub-block `at` go, 32 bytes that nobody else writes.
    #[inline(always)]
    pub(crate) fn quants(&mut self, row: usize, at: usize) -> *mut i8 {
        let (record, place) = self.record(row, at);
        // SAFETY: the record has thirty-two bytes for each of its rows.
        unsafe { record.add(place * SUB_BLOCK).cast() }
    }

    /// Writes what a sub-block's quants have in common.
    #[inline(always)]
    pub(crate) fn finish(&mut self, row: usize, at: usize, token: QuantToken) {
        let (record, place) = self.record(row, at);
        let [low, high] = token.sums;
        let words = [
            token.scale.to_bits(),
            (token.scale * (low + high) as f32).to_bits(),
            (-128 * low).cast_unsigned(),
            (-128 * high).cast_unsigned(),
        ];
        for (word, value) in words.into_iter().enumerate() {
            let offset = self.width * (SUB_BLOCK + word * 4) + place * 4;
            // SAFETY: the record has four words for each of its rows, and these are this value's alone.
            unsafe { record.add(offset).cast::<u32>().write_unaligned(value) };
        }
    }

    /// The record of sub-block `at`, and the place in it of a row.
    #[inline(always)]
    fn record(&self, row: usize, at: usize) -> (*mut u8, usize) {
        assert!(at < self.sub_blocks && row < self.places.len(), "a sub-block of a row");
        // SAFETY: the record is inside the memory that `places` found to be there.
        (unsafe { self.first.add(at * TOKEN_BYTES * self.width) }, self.places.start + row)
    }
}
