//! Normalisation.

use crate::{CpuError, Operand, Tensor, Vector, pool::share};

use super::{Machine, SHARE_OF_ELEMENTS};

/// Columns that are written at a time.
const CHUNK: usize = 64;

/// `x / sqrt(mean(x^2) + epsilon) * gain`, row by row.
///
/// One code for all instruction sets: it takes well under a hundredth of a layer's time.
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
    let panel_rows = machine.kernels.panel_rows();
    let mut normed = Operand::new(&machine.workspace, rows, columns, panel_rows)?;
    let writer = normed.writer();
    let threads = machine.pool.threads_for(rows * columns, SHARE_OF_ELEMENTS);
    machine.pool.run(threads, |thread, threads| {
        for row in share(rows, thread, threads) {
            let x = x.row(row);
            let mean = sum_of_squares(x) / columns as f64;
            let scale = (1.0 / (mean + f64::from(epsilon)).sqrt()) as f32;
            for (at, (x, gain)) in x.chunks(CHUNK).zip(gain.0.chunks(CHUNK)).enumerate() {
                let mut scaled = [0.0; CHUNK];
                for (scaled, (x, gain)) in scaled.iter_mut().zip(x.iter().zip(gain)) {
                    *scaled = x * scale * gain;
                }
                // SAFETY: rows are cut among the threads.
                unsafe { writer.put(row, at * CHUNK, &scaled[..x.len()]) };
            }
        }
    });
    Ok(normed)
}

/// In float64, eight sums of every eighth element, then those in order.
fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    for eight in x.chunks(8) {
        for (sum, &x) in sums.iter_mut().zip(eight) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum()
}
