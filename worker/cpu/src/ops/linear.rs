//! Linear layers.

use crate::{CpuError, Matrix, Operand, Tensor, disjoint::Disjoint, pool::share};

use super::{Machine, SHARE_OF_PRODUCTS};

/// `x * transpose(w)`. Threads take groups of outputs, and each goes through all rows.
///
/// # Panics
/// If `x` hasn't as many columns as `w` has inputs.
pub(crate) fn linear(machine: &mut Machine, x: &Operand, w: &Matrix) -> Result<Tensor, CpuError> {
    assert_eq!(x.columns(), w.inputs(), "as many columns as inputs");
    let mut products = Tensor::new(&machine.workspace, x.rows(), w.outputs())?;
    if x.rows() == 0 || w.outputs() == 0 {
        return Ok(products);
    }
    let work = x.rows() * w.inputs() * w.outputs();
    let threads = machine.pool.threads_for(work, SHARE_OF_PRODUCTS).min(w.groups());
    let kernels = machine.kernels;
    let cells = Disjoint::new(products.as_mut_slice());
    machine.pool.run(threads, |thread, threads| {
        for (rows, panel) in x.panels() {
            for (weights, outputs) in w.runs(share(w.groups(), thread, threads)) {
                let first = rows.start * w.outputs() + outputs.start;
                // SAFETY: groups, and with them the columns of the result, are cut among the threads.
                let products =
                    unsafe { cells.rectangle(first, rows.len(), outputs.len(), w.outputs()) };
                kernels.multiply_panel(weights, panel, products);
            }
        }
    });
    Ok(products)
}
