//! Activations for a linear layer.

use crate::{CpuError, Operand, Tensor, pool::share};

use super::{Machine, SHARE_OF_ELEMENTS};

/// `x` as linear layers read it.
pub(crate) fn operand(machine: &mut Machine, x: &Tensor) -> Result<Operand, CpuError> {
    let (rows, columns) = (x.rows(), x.columns());
    let Machine { kernels, forms, .. } = *machine;
    let mut operand = Operand::new(&machine.workspace, rows, columns, kernels, forms)?;
    let writer = operand.writer();
    let threads = machine.pool.threads_for(rows * columns, SHARE_OF_ELEMENTS);
    machine.pool.run(threads, |thread, threads| {
        for row in share(rows, thread, threads) {
            // SAFETY: rows are cut among the threads.
            unsafe { writer.put(kernels, row, 0, x.row(row)) };
        }
    });
    Ok(operand)
}
