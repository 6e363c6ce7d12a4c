//! Linear layers.

use std::ops::Range;

use crate::{
    CpuError, Kernels, Matrix, Operand, Tensor,
    disjoint::{Disjoint, Rectangle},
    matrix::Run,
    pool::part,
};

use super::{Machine, SHARE_OF_PRODUCTS, add};

/// Most pieces that a thread's share is cut into, for others to take what is left of it.
const MOST_PIECES: usize = 32;

/// `x * transpose(w)`.
///
/// # Panics
/// If `x` hasn't as many columns as `w` has inputs, or lacks the form that `w` is multiplied with.
pub(crate) fn linear(machine: &mut Machine, x: &Operand, w: &Matrix) -> Result<Tensor, CpuError> {
    let mut products = Tensor::new(&machine.workspace, x.rows(), w.outputs())?;
    compute(machine, x, w, &mut products, false);
    Ok(products)
}

/// Adds `x * transpose(w)` to `sum`.
///
/// # Panics
/// As [`linear`], or if `sum` has other rows or columns.
pub(crate) fn linear_add(
    machine: &mut Machine,
    sum: &mut Tensor,
    x: &Operand,
    w: &Matrix,
) -> Result<(), CpuError> {
    // Products of bfloat16 begin with nothing.
    if x.pairs().is_some() {
        let products = linear(machine, x, w)?;
        add(machine, sum, &products);
    } else {
        compute(machine, x, w, sum, true);
    }
    Ok(())
}

/// Threads take groups of outputs, and each goes through all rows; on top of what is there if `add`.
fn compute(machine: &mut Machine, x: &Operand, w: &Matrix, products: &mut Tensor, add: bool) {
    assert_eq!(x.columns(), w.inputs(), "as many columns as inputs");
    assert_eq!((products.rows(), products.columns()), (x.rows(), w.outputs()), "all products");
    if x.rows() == 0 || w.outputs() == 0 {
        return;
    }
    let work = x.rows() * w.inputs() * w.outputs();
    let threads = machine.pool.threads_for(work, SHARE_OF_PRODUCTS);
    let pieces = pieces(work, threads);
    let kernels = machine.kernels;
    let cells = Disjoint::new(products.as_mut_slice());
    machine.pool.run_pieces(threads, pieces, |_, owner, piece| {
        let groups = part(&w.share(owner, threads), piece, pieces);
        let outputs = w.outputs_of(groups.clone());
        // SAFETY: groups, and with them the columns of the result, are cut into pieces.
        let mut products =
            unsafe { cells.rectangle(outputs.start, x.rows(), outputs.len(), w.outputs()) };
        multiply(kernels, x, w, groups, &mut products, add);
    });
}

/// Into how many pieces to cut the shares of `threads`, if it takes `work` multiply-adds.
pub(super) fn pieces(work: usize, threads: usize) -> usize {
    if threads == 1 {
        return 1;
    }
    (work / threads / (2 * SHARE_OF_PRODUCTS)).clamp(1, MOST_PIECES)
}

/// Products of all rows of `x` with the outputs of `groups`, which `products` has columns for; on top of what
/// is there if `add`, unless they are of bfloat16.
pub(super) fn multiply(
    kernels: Kernels,
    x: &Operand,
    w: &Matrix,
    groups: Range<usize>,
    products: &mut Rectangle<'_>,
    add: bool,
) {
    let first = w.outputs_of(groups.clone()).start;
    for (run, outputs) in w.runs(groups) {
        let mut products = products.part(0..x.rows(), outputs.start - first..outputs.end - first);
        if let Some(x) = x.pairs() {
            kernels.multiply_pairs(&run, x, &mut products);
            continue;
        }
        match run {
            Run::Floats(weights) => {
                let x = x.floats().expect("the model has float matrices");
                for (rows, panel) in x.panels() {
                    let products = products.part(rows, 0..outputs.len());
                    kernels.multiply_panel(weights, panel, products, add);
                }
            }
            Run::Quants(weights) => match x.quants() {
                Some(x) => kernels.multiply_quants(&weights, x, &mut products, add),
                None => {
                    let x = x.floats().expect("an operand has at least one form");
                    kernels.multiply_dequantised(&weights, x, &mut products, add);
                }
            },
        }
    }
}
