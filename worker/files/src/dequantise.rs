//! The reference reading of each [`TensorType`]: plain, and what every kernel is tested against.

use half::f16;

use crate::{MatrixView, TensorType};

impl MatrixView<'_> {
    /// Writes the numbers of one row to `out`.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as a row.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns(), "as many floats as columns");
        let bytes = self.row(row);
        match self.tensor_type() {
            TensorType::F32 => {
                for (x, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = f32::from_le_bytes(bytes);
                }
            }
            TensorType::F16 => {
                for (x, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = f16::from_le_bytes(bytes).to_f32();
                }
            }
            TensorType::Q4_1 => {
                for (x, block) in out.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
                    q4_1(block, x);
                }
            }
            TensorType::Q8_0 => {
                for (x, block) in out.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
                    q8_0(block, x);
                }
            }
        }
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    let d = f16::from_le_bytes([*d0, *d1]).to_f32();
    let m = f16::from_le_bytes([*m0, *m1]).to_f32();
    for (j, byte) in nibbles.iter().enumerate() {
        out[j] = f32::from(byte & 0xf) * d + m;
        out[j + 16] = f32::from(byte >> 4) * d + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, quants @ ..] = block;
    let d = f16::from_le_bytes([*d0, *d1]).to_f32();
    for (x, quant) in out.iter_mut().zip(quants) {
        *x = f32::from(quant.cast_signed()) * d;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(tensor_type: TensorType, columns: usize, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; columns];
        MatrixView::new(tensor_type, 1, columns, bytes).unwrap().dequantise_row(0, &mut out);
        out
    }

    #[test]
    fn floats_are_little_endian() {
        let f32s = [0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0xc0];
        assert_eq!(read(TensorType::F32, 2, &f32s), [1.5, -2.0]);
        // 0x3c00 is 1, 0xc100 is -2.5, 0x0001 the smallest subnormal.
        let f16s = [0x00, 0x3c, 0x00, 0xc1, 0x01, 0x00];
        assert_eq!(read(TensorType::F16, 3, &f16s), [1.0, -2.5, 2.0_f32.powi(-24)]);
    }

    #[test]
    fn q4_1_by_hand() {
        // d = 0.5 (0x3800), m = -3 (0xc200); byte j holds j and 15 - j.
        let mut block = vec![0x00, 0x38, 0x00, 0xc2];
        block.extend((0..16_u8).map(|j| j | (15 - j) << 4));
        let expected: Vec<f32> = (0..16)
            .map(|j| j as f32 * 0.5 - 3.0)
            .chain((0..16).map(|j| (15 - j) as f32 * 0.5 - 3.0))
            .collect();
        assert_eq!(read(TensorType::Q4_1, 32, &block), expected);
    }

    #[test]
    fn q8_0_by_hand() {
        // d = 0.25 (0x3400).
        let mut block = vec![0x00, 0x34];
        block.extend([0x00, 0x01, 0xff, 0x7f, 0x80]);
        block.resize(34, 0);
        let mut expected = vec![0.0, 0.25, -0.25, 31.75, -32.0];
        expected.resize(32, 0.0);
        assert_eq!(read(TensorType::Q8_0, 32, &block), expected);
    }

    #[test]
    fn rows_and_cuts_are_read_where_they_lie() {
        // Two rows of two blocks, whose scales are 1, 2, 3 and 4, and whose quants are all 1.
        let mut bytes = Vec::new();
        for scale in [1.0, 2.0, 3.0, 4.0] {
            bytes.extend(f16::from_f32(scale).to_le_bytes());
            bytes.extend([1; 32]);
        }
        let matrix = MatrixView::new(TensorType::Q8_0, 2, 64, &bytes).unwrap();
        let mut row = [0.0; 64];
        matrix.dequantise_row(1, &mut row);
        assert_eq!(row[..32], [3.0; 32]);
        assert_eq!(row[32..], [4.0; 32]);
        let mut half = [0.0; 32];
        matrix.columns_in(32..64).unwrap().dequantise_row(0, &mut half);
        assert_eq!(half, [2.0; 32]);
    }
}
