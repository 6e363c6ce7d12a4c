//! The reference reading of each [`TensorType`]: plain, and what every kernel is tested against.

use half::{bf16, f16};

use crate::{MatrixView, TensorType};

impl MatrixView<'_> {
    /// Writes the numbers of one row to `out`.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as a row.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns(), "as many floats as columns");
        match self.tensor_type() {
            TensorType::F32 => floats(self.row(row), out, f32::from_le_bytes),
            TensorType::F16 => floats(self.row(row), out, |half| f16::from_le_bytes(half).to_f32()),
            TensorType::BF16 => {
                floats(self.row(row), out, |half| bf16::from_le_bytes(half).to_f32());
            }
            TensorType::Q4_0
            | TensorType::Q4_1
            | TensorType::Q5_0
            | TensorType::Q5_1
            | TensorType::Q8_0
            | TensorType::Q4_K
            | TensorType::Q5_K
            | TensorType::Q6_K => {
                for (out, sub_block) in out.as_chunks_mut().0.iter_mut().zip(self.sub_blocks(row)) {
                    *out = sub_block.values();
                }
            }
        }
    }
}

fn floats<const N: usize>(bytes: &[u8], out: &mut [f32], read: fn([u8; N]) -> f32) {
    for (x, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = read(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;

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
    fn every_type_is_read_as_the_reference_reads_it() {
        #[derive(Deserialize)]
        struct Golden {
            r#type: String,
            blocks: String,
            values: String,
        }
        let golden = include_str!("../../../tests/golden/quants.json");
        let golden: Vec<Golden> = serde_json::from_str(golden).unwrap();
        let names: Vec<&str> = golden.iter().map(|golden| golden.r#type.as_str()).collect();
        // Floats of 16 and 32 bits are read by hand above.
        assert_eq!(names, TensorType::ALL[2..].iter().map(|t| t.name()).collect::<Vec<_>>());
        for (golden, tensor_type) in golden.iter().zip(&TensorType::ALL[2..]) {
            let expected: Vec<f32> = (bytes_of(&golden.values).as_chunks().0.iter())
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            assert_eq!(expected.len(), 4 * tensor_type.block_len());
            let ours = read(*tensor_type, expected.len(), &bytes_of(&golden.blocks));
            assert_eq!(ours, expected, "{tensor_type}");
        }
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().as_chunks::<2>().0;
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(|pair| byte(pair)).collect()
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

    #[test]
    fn columns_may_begin_and_end_within_a_super_block() {
        for tensor_type in [TensorType::Q4_K, TensorType::Q5_K, TensorType::Q6_K] {
            // Two rows of three super-blocks; any bytes will do but scales that are no numbers.
            let bytes: Vec<u8> =
                (0..tensor_type.bytes(2 * 768)).map(|i| (i * i % 251) as u8 & 0x7b).collect();
            let matrix = MatrixView::new(tensor_type, 2, 768, &bytes).unwrap();
            let mut whole = [0.0; 768];
            matrix.dequantise_row(1, &mut whole);
            assert!(whole.iter().all(|x| x.is_finite()) && whole[..32] != whole[32..64]);
            for (start, end) in [(0, 768), (32, 64), (96, 256), (256, 512), (224, 736), (544, 544)]
            {
                let cut = matrix.columns_in(start..end).unwrap().rows_in(1..2);
                let mut part = vec![f32::NAN; end - start];
                cut.dequantise_row(0, &mut part);
                assert_eq!(part, whole[start..end], "{tensor_type} {start}..{end}");
            }
        }
    }
}
