//! Normalisation.

use crate::{CpuError, Operand, Tensor, Vector, pool::share};

use super::{Machine, SHARE_OF_ELEMENTS};

/// `x / sqrt(mean(x^2) + epsilon) * gain`, row by row.
///
/// # Panics
/// If there isn't one gain a column.
pub(crate) fn rms_norm(
    machine: &mut Machine,
    x: &Tensor,
    gain: &Vector,
    epsilon: f32,
) -> Result<Operand, CpuError> {
    let (rows, columns) = (x.rows(), x.columns());
    assert_eq!(gain.0.len(), columns, "one gain a column");
    let Machine { kernels, forms, .. } = *machine;
    let mut normed = Operand::new(&machine.workspace, rows, columns, kernels, forms)?;
    let writer = normed.writer();
    let threads = machine.pool.threads_for(rows * columns, SHARE_OF_ELEMENTS);
    let mut scratch = machine.workspace.take(threads * columns)?;
    machine.pool.for_each_chunk(threads, scratch.as_mut_slice(), columns, |thread, scaled| {
        for row in share(rows, thread, threads) {
            kernels.rms_norm(x.row(row), &gain.0, epsilon, scaled);
            // SAFETY: rows are cut among the threads.
            unsafe { writer.put(kernels, row, 0, scaled) };
        }
    });
    Ok(normed)
}
