//! Made-up weights and plain references, for the tests of this crate.

use half::f16;
use shardrun_files::{MatrixView, TensorType};

use crate::{Isa, Kernels};

/// Every type that a matrix may have.
pub(crate) const TYPES: [TensorType; 4] =
    [TensorType::F32, TensorType::F16, TensorType::Q4_1, TensorType::Q8_0];

/// A small random generator (Vigna's splitmix64), so that tests repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Uniform in -1..1.
    pub(crate) fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }
}

/// A matrix as a file stores it.
pub(crate) struct Stored {
    tensor_type: TensorType,
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn random(tensor_type: TensorType, rows: usize, columns: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut bytes = Vec::new();
        for _ in 0..rows * columns / tensor_type.block_len() {
            let scale = f16::from_f32(random.value() / 8.0).to_le_bytes();
            match tensor_type {
                TensorType::F32 => bytes.extend(random.value().to_le_bytes()),
                TensorType::F16 => bytes.extend(scale),
                TensorType::Q4_1 => {
                    bytes.extend(scale);
                    bytes.extend(f16::from_f32(random.value()).to_le_bytes());
                }
                TensorType::Q8_0 => bytes.extend(scale),
            }
            let quants = match tensor_type {
                TensorType::F32 | TensorType::F16 => 0,
                TensorType::Q4_1 => 16,
                TensorType::Q8_0 => 32,
            };
            bytes.extend((0..quants).map(|_| random.bits() as u8));
        }
        Self { tensor_type, rows, columns, bytes }
    }

    /// A matrix of float32 with rows of `columns`.
    pub(crate) fn floats(values: &[f32], columns: usize) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { tensor_type: TensorType::F32, rows: values.len() / columns, columns, bytes }
    }

    pub(crate) fn view(&self) -> MatrixView<'_> {
        MatrixView::new(self.tensor_type, self.rows, self.columns, &self.bytes).expect("right size")
    }

    /// A row dequantised, straight from the definition of the types.
    pub(crate) fn row(&self, row: usize) -> Vec<f32> {
        let view = self.view();
        let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        let blocks = view.row(row).chunks_exact(self.tensor_type.block_bytes());
        blocks
            .flat_map(|block| match self.tensor_type {
                TensorType::F32 => vec![f32::from_le_bytes(block.try_into().expect("four bytes"))],
                TensorType::F16 => vec![half(block)],
                TensorType::Q4_1 => {
                    let (d, m) = (half(block), half(&block[2..]));
                    let low = block[4..].iter().map(|byte| byte & 15);
                    let high = block[4..].iter().map(|byte| byte >> 4);
                    low.chain(high).map(|quant| f32::from(quant) * d + m).collect()
                }
                TensorType::Q8_0 => {
                    let d = half(block);
                    block[2..].iter().map(|&quant| f32::from(quant as i8) * d).collect()
                }
            })
            .collect()
    }
}

/// The kernels of every instruction set that this CPU has; the tests cover no others.
pub(crate) fn kernels_that_run() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(|isa| Kernels::new(isa).ok())
}
