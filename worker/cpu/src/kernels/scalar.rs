//! The kernels in plain Rust: what the fast ones are tested against, and what runs where none of
//! them does.

use shardrun_model::CacheType;

use crate::{
    disjoint::Rectangle,
    matrix::{BlockType, GROUP, LONGEST_BLOCK, Weights},
};

/// Rows that one pass over the weights multiplies.
const ROWS: usize = 8;

/// Kernels that need nothing of the CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

impl Scalar {
    pub(super) fn panel_rows(self) -> usize {
        ROWS
    }

    pub(super) fn multiply_panel(
        self,
        weights: Weights<'_>,
        panel: &[f32],
        products: Rectangle<'_>,
    ) {
        let rows = products.rows();
        multiply(weights, products, false, |row, input| panel[input * rows + row]);
    }

    pub(super) fn multiply_rows(
        self,
        weights: Weights<'_, CacheType>,
        inputs: &[f32],
        stride: usize,
        sums: Rectangle<'_>,
    ) {
        multiply(weights, sums, true, |row, input| inputs[row * stride + input]);
    }

    /// Nothing in plain Rust asks for memory.
    pub(super) fn prefetch_all(self, _: &[u8]) {}

    pub(super) fn softmax(self, scores: &mut [f32], scale: f32) -> f32 {
        let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for score in scores {
            *score = ((*score - greatest) * scale).exp();
            sum += *score;
        }
        sum
    }

    pub(super) fn silu_mul(self, gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
    }
}

/// Sums of weight times input, per row and output; on top of what is there if `add`.
fn multiply<T: BlockType>(
    weights: Weights<'_, T>,
    mut sums: Rectangle<'_>,
    add: bool,
    input: impl Fn(usize, usize) -> f32,
) {
    let rows = sums.rows();
    let block = weights.block_type.block_len();
    for group in 0..weights.groups {
        let first = group * GROUP;
        let lanes = GROUP.min(sums.columns() - first);
        let mut totals = [[0.0; GROUP]; ROWS];
        if add {
            for row in 0..rows {
                totals[row][..lanes].copy_from_slice(&sums.row(row)[first..first + lanes]);
            }
        }
        for (at, record) in weights.group(group).enumerate() {
            let mut unpacked = [[0.0; GROUP]; LONGEST_BLOCK];
            for lane in 0..GROUP {
                weights.block_type.for_each_weight(record, lane, |element, weight| {
                    unpacked[element][lane] = weight;
                });
            }
            for element in 0..block {
                for row in 0..rows {
                    let input = input(row, at * block + element);
                    for lane in 0..GROUP {
                        totals[row][lane] += unpacked[element][lane] * input;
                    }
                }
            }
        }
        for row in 0..rows {
            sums.row(row)[first..first + lanes].copy_from_slice(&totals[row][..lanes]);
        }
    }
}
