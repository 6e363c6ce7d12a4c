//! Unpacked weights: sixteen outputs by thirty-two inputs.

use crate::matrix::{GROUP, SUB_BLOCK};

/// A sub-block of a group, as kernels multiply it when several rows want it: small enough for a few
/// dozen to stay in the first-level cache.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Plane {
    /// Byte 4l + b of vector j is output l's quant of input 4j + b.
    pub(super) quants: [Vector; SUB_BLOCK / 4],
    /// Of the first and of the second sixteen inputs.
    pub(super) scales: [[f32; GROUP]; 2],
    /// A weight is `quant * scale + minimum`.
    pub(super) minima: [[f32; GROUP]; 2],
}

/// Four quants of each output.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Vector(pub(super) [u8; 4 * GROUP]);

impl Default for Vector {
    fn default() -> Self {
        Self([0; 4 * GROUP])
    }
}

impl Plane {
    /// Writes the weights of one output.
    pub(crate) fn lane(&self, lane: usize, values: &mut [f32]) {
        for (input, value) in values.iter_mut().enumerate() {
            let quant = self.quants[input / 4].0[lane * 4 + input % 4];
            let half = input / 16;
            *value = f32::from(quant).mul_add(self.scales[half][lane], self.minima[half][lane]);
        }
    }
}
