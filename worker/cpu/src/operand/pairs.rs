//! The bfloat16 form.

use std::marker::PhantomData;

use super::columns::{ColumnPanels, ColumnWriter};
use crate::matrix::SUB_BLOCK;

/// How the columns of a block of thirty-two are paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairOrder {
    /// As they come.
    Natural,
    /// Of sixteen, those with even numbers first, since that is how nibbles fall apart that share a word.
    EvenFirst,
}

impl PairOrder {
    /// The column at a place of a block: places `2r` and `2r + 1` are a pair.
    pub(crate) const fn column_at(self, place: usize) -> usize {
        match self {
            Self::Natural => place,
            Self::EvenFirst => place / 16 * 16 + place % 8 * 2 + place % 16 / 8,
        }
    }

    /// Pairs of so many columns.
    pub(crate) const fn pairs(self, columns: usize) -> usize {
        match self {
            Self::Natural => columns.div_ceil(2),
            // Those of a block that isn't whole are all over it.
            Self::EvenFirst => columns.div_ceil(SUB_BLOCK) * SUB_BLOCK / 2,
        }
    }
}

/// Activations rounded to bfloat16, two in a word: a [`PairOrder`] says which. What a last one lacks is
/// zero.
pub(crate) type PairPanels = ColumnPanels<u32>;

/// Where some pairs of one row go.
pub(crate) struct PairRow<'a> {
    first: *mut u32,
    len: usize,
    width: usize,
    memory: PhantomData<&'a mut [u32]>,
}

impl<'a> ColumnWriter<'a, u32> {
    /// The place of `len` pairs of `row` from pair `first` on.
    ///
    /// # Safety
    /// No other thread writes these pairs while the result lives.
    pub(super) unsafe fn place(&self, row: usize, first: usize, len: usize) -> PairRow<'a> {
        let (first, width) = self.pointer(row, first, len);
        PairRow { first, len, width, memory: PhantomData }
    }
}

impl PairRow<'_> {
    /// Pairs that there is room for.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Words from a pair to the next one: rows of the panel.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The place of pair `at`, which `count - 1` others follow. Nobody else writes them.
    ///
    /// # Panics
    /// If the row hasn't as many.
    #[inline(always)]
    pub(crate) fn pairs(&self, at: usize, count: usize) -> *mut u32 {
        assert!(at + count <= self.len, "pairs of the row");
        self.first.wrapping_add(at * self.width)
    }
}
