//! Activations for a linear layer.

use crate::{CpuError, Operand, Tensor, operand::Rows, pool::share};

use super::{Machine, SHARE_OF_ELEMENTS};

/// `x` as linear layers read it.
pub(crate) fn operand(machine: &mut Machine, x: &Tensor) -> Result<Operand, CpuError> {
    let (rows, columns) = (x.rows(), x.columns());
    let Machine { kernels, forms, .. } = *machine;
    let mut operand = Operand::new(&machine.workspace, rows, columns, kernels, forms)?;
    let writer = operand.writer();
    let threads = machine.pool.threads_for(rows * columns, SHARE_OF_ELEMENTS);
    machine.pool.run(threads, |thread, threads| {
        let share = share(rows, thread, threads);
        let values = Rows::new(x.as_slice(), rows, columns, columns).part(share.clone());
        // SAFETY: rows are cut among the threads.
        unsafe { writer.put(kernels, share.start, 0, values) };
    });
    Ok(operand)
}
