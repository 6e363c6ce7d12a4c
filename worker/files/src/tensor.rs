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
    #[must_use]
    pub fn bytes(self, len: usize) -> usize {
        len / self.block_len() * self.block_bytes()
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
    pub fn new(tensor_type: TensorType, rows: usize, columns: usize, data: &'a [u8]) -> Option<Self> {
        if columns % tensor_type.block_len() != 0 {
            return None;
        }
        let row_stride = tensor_type.bytes(columns);
        (rows.checked_mul(row_stride) == Some(data.len()))
            .then_some(Self { tensor_type, rows, columns, row_stride, data })
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
        if range.start % block != 0 || range.end % block != 0 {
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
