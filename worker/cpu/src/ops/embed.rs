//! Token embedding.

use crate::{CpuError, Matrix, Tensor};

use super::{Machine, SHARE_OF_ELEMENTS};

/// The rows of `tokens` in `table`, which holds those from `first_token` on; zeros for others.
pub(crate) fn embed(
    machine: &mut Machine,
    tokens: &[u32],
    table: &Matrix,
    first_token: u32,
) -> Result<Tensor, CpuError> {
    let columns = table.inputs();
    let mut rows = Tensor::new(&machine.workspace, tokens.len(), columns)?;
    let kernels = machine.kernels;
    let threads = machine.pool.threads_for(tokens.len() * columns, SHARE_OF_ELEMENTS);
    machine.pool.for_each_chunk(
        threads,
        rows.as_mut_slice(),
        columns.max(1),
        |at, row| match tokens[at].checked_sub(first_token).map(|token| token as usize) {
            Some(token) if token < table.outputs() => table.dequantise_row(kernels, token, row),
            _ => row.fill(0.0),
        },
    );
    Ok(rows)
}
