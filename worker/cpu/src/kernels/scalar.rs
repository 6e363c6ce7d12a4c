//! The kernels in plain Rust: what the fast ones are tested against, and what runs where none of
//! them does.

use super::plane::Plane;
use crate::{
    disjoint::Rectangle,
    matrix::{BlockType, FloatType, GROUP, SUB_BLOCK, Weights},
    operand::{QuantRows, QuantToken, Rows},
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
        weights: Weights<'_, FloatType>,
        panel: &[f32],
        products: Rectangle<'_>,
        add: bool,
    ) {
        let rows = products.rows();
        multiply(weights, products, add, |row, input| panel[input * rows + row]);
    }

    pub(super) fn silu_mul(self, gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
    }

    pub(super) fn add(self, sum: &mut [f32], x: &[f32]) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }

    pub(super) fn rms_norm(self, x: &[f32], gain: &[f32], epsilon: f32, normed: &mut [f32]) {
        let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let mean = squares / x.len() as f64;
        let scale = (1.0 / (mean + f64::from(epsilon)).sqrt()) as f32;
        for (normed, (x, gain)) in normed.iter_mut().zip(x.iter().zip(gain)) {
            *normed = x * scale * gain;
        }
    }

    pub(super) fn quantise(self, values: Rows<'_>, mut places: QuantRows<'_>) {
        for row in 0..values.count() {
            for (at, values) in values.row(row).chunks_exact(SUB_BLOCK).enumerate() {
                // As whole numbers, magnitudes have the same order, and what is not a number comes last.
                let greatest = values.iter().map(|value| value.abs().to_bits()).max();
                let greatest = f32::from_bits(greatest.unwrap_or(0));
                let factor = QuantToken::factor(greatest);
                let mut sums = [0; 2];
                let quants = places.quants(row, at);
                for (place, value) in values.iter().enumerate() {
                    let quant = (value * factor).round_ties_even() as i8;
                    sums[place / 16] += i32::from(quant);
                    // SAFETY: there is room for thirty-two quants of a sub-block.
                    unsafe { quants.add(place).write(quant) };
                }
                places.finish(row, at, QuantToken::new(greatest, sums));
            }
        }
    }

    pub(super) fn greatest(self, values: &[f32]) -> f32 {
        values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    pub(super) fn expand(self, plane: &Plane, weights: &mut [[f32; GROUP]; SUB_BLOCK]) {
        let mut values = [0.0; SUB_BLOCK];
        for lane in 0..GROUP {
            plane.lane(lane, &mut values);
            for (weights, value) in weights.iter_mut().zip(values) {
                weights[lane] = value;
            }
        }
    }
}

/// Sums of weight times input, per row and output; on top of what is there if `add`.
fn multiply(
    weights: Weights<'_, FloatType>,
    mut sums: Rectangle<'_>,
    add: bool,
    input: impl Fn(usize, usize) -> f32,
) {
    let rows = sums.rows();
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
            for lane in 0..GROUP {
                weights.block_type.for_each_weight(record, lane, |_, weight| {
                    for row in 0..rows {
                        totals[row][lane] += weight * input(row, at);
                    }
                });
            }
        }
        for row in 0..rows {
            sums.row(row)[first..first + lanes].copy_from_slice(&totals[row][..lanes]);
        }
    }
}
