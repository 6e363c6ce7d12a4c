//! Tensors of a weight file and views of parts of them: how a rank names its shard without
//! copying or dequantising it.

use std::ops::Range;

use thiserror::Error;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// Blocks of 32: f16 scale `d`, f16 minimum `m`, 16 bytes of nibbles; `w = q * d + m`.
    /// Byte j holds element j in its low and element j + 16 in its high nibble.
    Q4_1,
    /// Blocks of 32: f16 scale `d`, 32 signed bytes; `w = q * d`.
    Q8_0,
}

impl TensorType {
    /// Elements in one block; 1 for plain floats.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q4_1 | Self::Q8_0 => 32,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }

    /// Bytes of `len` elements, a whole number of blocks.
    ///
    /// # Panics
    /// If they are more than can be addressed.
    #[must_use]
    pub fn bytes(self, len: usize) -> usize {
        self.checked_bytes(len).expect("elements of a tensor can be addressed")
    }

    fn checked_bytes(self, len: usize) -> Option<usize> {
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The name that files and tools use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q4_1 => "Q4_1",
            Self::Q8_0 => "Q8_0",
        }
    }
}

/// A rectangle of a row-major matrix `[rows, columns]` as it is stored: `columns` runs along the
/// input dimension of a linear layer, along which blocks lie.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    tensor_type: TensorType,
    rows: usize,
    columns: usize,
    row_stride: usize,
    data: &'a [u8],
}

/// A cut that does not fall on a block.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("columns {start}..{end} of a {name} matrix don't begin and end on blocks of {block}")]
pub struct Misaligned {
    /// First column of the cut.
    pub start: usize,
    /// One past its last column.
    pub end: usize,
    /// The matrix's type.
    pub name: &'static str,
    /// Columns in a block.
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
    /// [`Misaligned`] unless the cut falls on blocks.
    ///
    /// # Panics
    /// If `range` is not within the columns.
    pub fn columns_in(&self, range: Range<usize>) -> Result<Self, Misaligned> {
        assert!(range.start <= range.end && range.end <= self.columns, "columns within the matrix");
        let block = self.tensor_type.block_len();
        if !range.start.is_multiple_of(block) || !range.end.is_multiple_of(block) {
            return Err(Misaligned {
                start: range.start,
                end: range.end,
                name: self.tensor_type.name(),
                block,
            });
        }
        let first = self.tensor_type.bytes(range.start);
        let data = if self.rows == 0 { self.data } else { &self.data[first..] };
        Ok(Self { columns: range.len(), data, ..*self })
    }

    /// The bytes of one row.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [u8] {
        assert!(row < self.rows, "row within the matrix");
        &self.data[row * self.row_stride..][..self.tensor_type.bytes(self.columns)]
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
    #[should_panic(expected = "row within the matrix")]
    fn a_row_beyond_the_last_is_a_bug() {
        let data = three_by_three();
        let _ = MatrixView::new(TensorType::Q8_0, 3, 96, &data).unwrap().rows_in(0..1).row(1);
    }
}
