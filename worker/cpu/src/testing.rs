//! Made-up weights and plain references, for the tests of this crate.

use half::f16;
use shardrun_files::{MatrixView, TensorType};

use crate::{Isa, Kernels};

/// Every type that a matrix may have.
pub(crate) const TYPES: [TensorType; 11] = TensorType::ALL;

/// The quantised ones of these.
pub(crate) fn quantised() -> Vec<TensorType> {
    TYPES.into_iter().filter(|tensor_type| tensor_type.block_len() > 1).collect()
}

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
            let first = bytes.len();
            bytes.extend((0..tensor_type.block_bytes()).map(|_| random.bits() as u8));
            let block = &mut bytes[first..];
            // Anything else may be any bits.
            let mut half = |at: usize, greatest: f32| {
                let half = f16::from_f32(random.value() * greatest).to_le_bytes();
                block[at..at + 2].copy_from_slice(&half);
            };
            match tensor_type {
                TensorType::F32 => block.copy_from_slice(&random.value().to_le_bytes()),
                TensorType::BF16 => block.copy_from_slice(&random.value().to_le_bytes()[2..]),
                TensorType::F16 => half(0, 1.0),
                TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => half(0, 0.125),
                TensorType::Q4_1 | TensorType::Q5_1 => {
                    half(0, 0.125);
                    half(2, 1.0);
                }
                TensorType::Q4_K | TensorType::Q5_K => {
                    half(0, 0.004);
                    half(2, 0.02);
                }
                TensorType::Q6_K => half(208, 0.001),
            }
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
        let bytes = view.row_blocks(row).bytes;
        let float = |bytes: &[u8], shift: usize| {
            let mut word = [0; 4];
            word[shift..].copy_from_slice(bytes);
            f32::from_le_bytes(word)
        };
        match self.tensor_type {
            TensorType::F32 => bytes.chunks(4).map(|bytes| float(bytes, 0)).collect(),
            TensorType::BF16 => bytes.chunks(2).map(|bytes| float(bytes, 2)).collect(),
            TensorType::F16 => bytes
                .chunks(2)
                .map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32())
                .collect(),
            _ => view.sub_blocks(row).flat_map(|sub_block| sub_block.values()).collect(),
        }
    }
}

/// The kernels of every instruction set that this CPU has; the tests cover no others.
pub(crate) fn kernels_that_run() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(|isa| Kernels::new(isa).ok())
}
