//! Linear layers.

use crate::{CpuError, Matrix, Operand, Tensor, disjoint::Disjoint, matrix::Run};

use super::{Machine, SHARE_OF_PRODUCTS};

/// `x * transpose(w)`. Threads take groups of outputs, and each goes through all rows.
///
/// # Panics
/// If `x` hasn't as many columns as `w` has inputs, or lacks the form that `w` is multiplied with.
pub(crate) fn linear(machine: &mut Machine, x: &Operand, w: &Matrix) -> Result<Tensor, CpuError> {
    assert_eq!(x.columns(), w.inputs(), "as many columns as inputs");
    let mut products = Tensor::new(&machine.workspace, x.rows(), w.outputs())?;
    if x.rows() == 0 || w.outputs() == 0 {
        return Ok(products);
    }
    let work = x.rows() * w.inputs() * w.outputs();
    let threads = machine.pool.threads_for(work, SHARE_OF_PRODUCTS);
    let kernels = machine.kernels;
    let cells = Disjoint::new(products.as_mut_slice());
    machine.pool.run(threads, |thread, threads| {
        for (run, outputs) in w.runs(w.share(thread, threads)) {
            // SAFETY: groups, and with them the columns of the result, are cut among the threads.
            let mut products =
                unsafe { cells.rectangle(outputs.start, x.rows(), outputs.len(), w.outputs()) };
            match run {
                Run::Floats(weights) => {
                    let x = x.floats().expect("the model has float matrices");
                    for (rows, panel) in x.panels() {
                        let products = products.part(rows, 0..outputs.len());
                        kernels.multiply_panel(weights, panel, products, false);
                    }
                }
                Run::Quants(weights) => match x.quants() {
                    Some(x) => kernels.multiply_quants(&weights, x, &mut products),
                    None => {
                        let x = x.floats().expect("an operand has at least one form");
                        kernels.multiply_dequantised(&weights, x, &mut products);
                    }
                },
            }
        }
    });
    Ok(products)
}
