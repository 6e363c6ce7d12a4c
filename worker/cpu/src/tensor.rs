//! Activations, row by row.

use crate::{
    CpuError,
    workspace::{Buffer, Workspace},
};

/// Float32 activations `[rows, columns]`, row-major. Its memory goes back to the workspace on drop.
pub struct Tensor {
    values: Buffer,
    rows: usize,
    columns: usize,
}

impl Tensor {
    /// A tensor whose every element is still to be written.
    pub(crate) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
    ) -> Result<Self, CpuError> {
        Ok(Self { values: workspace.take(rows * columns)?, rows, columns })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.as_slice()[row * self.columns..][..self.columns]
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        self.values.as_slice()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.values.as_mut_slice()
    }
}
