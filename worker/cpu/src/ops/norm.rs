//! Normalisation.

use crate::{CpuError, Operand, Tensor, Vector, matrix::GROUP, operand::Rows, pool::share};

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
    // As many rows as a panel has at most become an operand's at once.
    let at_once = rows.div_ceil(threads).clamp(1, GROUP);
    let room = at_once * columns;
    let mut scratch = machine.workspace.take(threads * room)?;
    machine.pool.for_each_chunk(threads, scratch.as_mut_slice(), room, |thread, scaled| {
        let mut share = share(rows, thread, threads);
        while !share.is_empty() {
            let first = share.start;
            let count = share.len().min(at_once);
            for (row, scaled) in share.by_ref().take(count).zip(scaled.chunks_mut(columns)) {
                kernels.rms_norm(x.row(row), &gain.0, epsilon, scaled);
            }
            let scaled = Rows::new(scaled, count, columns, columns);
            // SAFETY: rows are cut among the threads.
            unsafe { writer.put(kernels, first, 0, scaled) };
        }
    });
    Ok(normed)
}
