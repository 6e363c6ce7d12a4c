//! Tensors of a weight file and views of parts of them: how a rank names its shard without
//! copying or dequantising it.

use std::ops::Range;

use thiserror::Error;

use crate::{SubBlock, TensorType, decode_sub_block};

/// A rectangle of a row-major matrix `[rows, columns]` as it is stored: `columns` runs along the
/// input dimension of a linear layer, along which blocks lie.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    tensor_type: TensorType,
    rows: usize,
    columns: usize,
    /// The element of its block at which the columns begin: a multiple of the type's sub-block.
    first: usize,
    row_stride: usize,
    /// From the block in which the columns of the first row begin.
    data: &'a [u8],
}

/// The blocks that one row of a view touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowBlocks<'a> {
    /// Whole blocks, as they are stored.
    pub bytes: &'a [u8],
    /// The element of the first block at which the row's columns begin; not 0 only where columns
    /// were cut within a super-block.
    pub first: usize,
}

/// A cut that does not fall on a block, or on a sub-block where blocks have such.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("columns {start}..{end} of a {name} matrix don't begin and end on blocks of {block}")]
pub struct Misaligned {
    /// First column of the cut.
    pub start: usize,
    /// One past its last column.
    pub end: usize,
    /// The matrix's type.
    pub name: &'static str,
    /// Columns between two places at which they can be cut.
    pub block: usize,
}

impl<'a> MatrixView<'a> {
    /// A whole matrix over `data`, which holds exactly its bytes; `None` if it doesn't, or if a row
    /// is not a whole number of blocks.
    #[must_use]
    pub fn new(
        tensor_type: TensorType,
        rows: usize,
        columns: usize,
        data: &'a [u8],
    ) -> Option<Self> {
        if !columns.is_multiple_of(tensor_type.block_len()) {
            return None;
        }
        let row_stride = tensor_type.checked_bytes(columns)?;
        (rows.checked_mul(row_stride) == Some(data.len())).then_some(Self {
            tensor_type,
            rows,
            columns,
            first: 0,
            row_stride,
            data,
        })
    }

    /// How the numbers are stored.
    #[must_use]
    pub fn tensor_type(&self) -> TensorType {
        self.tensor_type
    }

    /// Rows: outputs of a linear layer, or tokens of an embedding.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of a linear layer.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows of `range` alone.
    ///
    /// # Panics
    /// If `range` is not within the rows.
    #[must_use]
    pub fn rows_in(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows within the matrix");
        // The last row of a column cut ends before a whole stride does.
        let end = (range.end * self.row_stride).min(self.data.len());
        let start = (range.start * self.row_stride).min(end);
        Self { rows: range.len(), data: &self.data[start..end], ..*self }
    }

    /// The columns of `range` alone.
    ///
    /// # Errors
    /// [`Misaligned`] unless the cut falls on sub-blocks ([`TensorType::sub_block_len`]).
    ///
    /// # Panics
    /// If `range` is not within the columns.
    pub fn columns_in(&self, range: Range<usize>) -> Result<Self, Misaligned> {
        assert!(range.start <= range.end && range.end <= self.columns, "columns within the matrix");
        let granule = self.tensor_type.sub_block_len();
        if !range.start.is_multiple_of(granule) || !range.end.is_multiple_of(granule) {
            return Err(Misaligned {
                start: range.start,
                end: range.end,
                name: self.tensor_type.name(),
                block: granule,
            });
        }
        let start = self.first + range.start;
        let first = start % self.tensor_type.block_len();
        let skipped = self.tensor_type.bytes(start - first);
        let data = if self.rows == 0 { self.data } else { &self.data[skipped..] };
        Ok(Self { columns: range.len(), first, data, ..*self })
    }

    /// The bytes of one row of whole blocks.
    ///
    /// # Panics
    /// If there is no such row, or the columns were cut within a block: [`Self::row_blocks`] gives
    /// the bytes of those.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [u8] {
        let whole = self.first == 0 && self.columns.is_multiple_of(self.tensor_type.block_len());
        assert!(whole, "columns of whole blocks");
        self.row_blocks(row).bytes
    }

    /// The blocks that one row touches.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row_blocks(&self, row: usize) -> RowBlocks<'a> {
        assert!(row < self.rows, "row within the matrix");
        let elements = match self.columns {
            0 => 0,
            columns => (self.first + columns).next_multiple_of(self.tensor_type.block_len()),
        };
        let bytes = &self.data[row * self.row_stride..][..self.tensor_type.bytes(elements)];
        RowBlocks { bytes, first: self.first }
    }

    /// One row of a quantised type, 32 columns at a time.
    ///
    /// # Panics
    /// If there is no such row, or the type is not a quantised one.
    pub fn sub_blocks(&self, row: usize) -> impl Iterator<Item = SubBlock> + use<'a> {
        let RowBlocks { bytes, first } = self.row_blocks(row);
        let tensor_type = self.tensor_type;
        let len = tensor_type.sub_block_len();
        let in_block = tensor_type.block_len() / len;
        (first / len..(first + self.columns) / len).map(move |sub| {
            let block = &bytes[tensor_type.bytes(sub / in_block * tensor_type.block_len())..];
            decode_sub_block(tensor_type, &block[..tensor_type.block_bytes()], sub % in_block)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Three rows of three Q8_0 blocks; every byte of a block is `10 * row + block`.
    fn three_by_three() -> Vec<u8> {
        (0..9_u8).flat_map(|i| [i / 3 * 10 + i % 3; 34]).collect()
    }

    fn blocks(view: &MatrixView<'_>, row: usize) -> Vec<u8> {
        let (blocks, rest) = view.row(row).as_chunks::<34>();
        assert!(rest.is_empty());
        blocks.iter().map(|block| block[0]).collect()
    }

    #[test]
    fn a_matrix_needs_exactly_its_bytes() {
        let data = [0; 40];
        assert!(MatrixView::new(TensorType::Q4_1, 2, 32, &data).is_some());
        assert!(MatrixView::new(TensorType::Q4_1, 1, 64, &data).is_some());
        assert!(MatrixView::new(TensorType::Q4_1, 2, 32, &data[..39]).is_none());
        assert!(MatrixView::new(TensorType::Q4_1, 1, 32, &data).is_none());
        // A row of half a block.
        assert!(MatrixView::new(TensorType::Q4_1, 4, 16, &data).is_none());
        // Sizes that wrap around to the right number of bytes.
        assert!(MatrixView::new(TensorType::F32, 1, 1 << 62, &[]).is_none());
        assert!(MatrixView::new(TensorType::F32, 1 << 62, 1, &[]).is_none());
    }

    #[test]
    fn cuts_nest() {
        let data = three_by_three();
        let whole = MatrixView::new(TensorType::Q8_0, 3, 96, &data).unwrap();
        assert_eq!(blocks(&whole, 1), [10, 11, 12]);

        let rows = whole.rows_in(1..3);
        assert_eq!((rows.rows(), rows.columns()), (2, 96));
        assert_eq!(blocks(&rows, 0), [10, 11, 12]);

        let right = whole.columns_in(32..96).unwrap();
        assert_eq!((right.rows(), right.columns()), (3, 64));
        assert_eq!(blocks(&right, 2), [21, 22]);

        // Rows of columns, columns of rows, and columns of columns are the same rectangle.
        for view in [
            right.rows_in(1..3).columns_in(0..32).unwrap(),
            rows.columns_in(32..64).unwrap(),
            right.columns_in(0..32).unwrap().rows_in(1..3),
        ] {
            assert_eq!((view.rows(), view.columns()), (2, 32));
            assert_eq!(blocks(&view, 0), [11]);
            assert_eq!(blocks(&view, 1), [21]);
        }
    }

    #[test]
    fn empty_cuts_are_views_too() {
        let data = three_by_three();
        let whole = MatrixView::new(TensorType::Q8_0, 3, 96, &data).unwrap();
        let last = whole.columns_in(64..96).unwrap();
        assert_eq!(last.rows_in(3..3).rows(), 0);
        assert_eq!(last.rows_in(3..3).columns_in(32..32).unwrap().columns(), 0);
        assert_eq!(whole.columns_in(96..96).unwrap().row(2), [0_u8; 0]);
        assert!(MatrixView::new(TensorType::F16, 0, 8, &[]).is_some());
    }

    #[test]
    fn a_cut_inside_a_block_is_refused() {
        let data = three_by_three();
        let whole = MatrixView::new(TensorType::Q8_0, 3, 96, &data).unwrap();
        assert_eq!(
            whole.columns_in(16..48).unwrap_err().to_string(),
            "columns 16..48 of a Q8_0 matrix don't begin and end on blocks of 32"
        );
        assert!(whole.columns_in(0..33).is_err());
    }

    #[test]
    fn a_super_block_is_cut_on_its_sub_blocks() {
        // Two rows of two super-blocks; every byte of one is `10 * row + block`.
        let data: Vec<u8> = [0, 1, 10, 11].into_iter().flat_map(|id| [id; 144]).collect();
        let whole = MatrixView::new(TensorType::Q4_K, 2, 512, &data).unwrap();
        let touched = |view: &MatrixView<'_>, row| {
            let RowBlocks { bytes, first } = view.row_blocks(row);
            (bytes.chunks(144).map(|block| block[0]).collect::<Vec<_>>(), first)
        };
        let middle = whole.columns_in(224..288).unwrap();
        assert_eq!(touched(&middle, 1), (vec![10, 11], 224));
        // A cut of a cut, in the other block and in the same one.
        assert_eq!(touched(&middle.columns_in(32..64).unwrap(), 1), (vec![11], 0));
        let last = whole.columns_in(320..512).unwrap();
        assert_eq!(touched(&last, 0), (vec![1], 64));
        assert_eq!(touched(&last.columns_in(96..128).unwrap().rows_in(1..2), 0), (vec![11], 160));
        assert_eq!(touched(&last.columns_in(192..192).unwrap(), 1), (vec![], 0));
        assert_eq!(whole.columns_in(256..512).unwrap().row(1), [11; 144]);
        assert_eq!(
            whole.columns_in(16..48).unwrap_err().to_string(),
            "columns 16..48 of a Q4_K matrix don't begin and end on blocks of 32"
        );
    }

    #[test]
    #[should_panic(expected = "columns of whole blocks")]
    fn half_a_super_block_has_no_bytes_of_its_own() {
        let whole = MatrixView::new(TensorType::Q6_K, 1, 256, &[0; 210]).unwrap();
        let _ = whole.columns_in(0..128).unwrap().row(0);
    }

    #[test]
    #[should_panic(expected = "row within the matrix")]
    fn a_row_beyond_the_last_is_a_bug() {
        let data = three_by_three();
        let _ = MatrixView::new(TensorType::Q8_0, 3, 96, &data).unwrap().rows_in(0..1).row(1);
    }
}
