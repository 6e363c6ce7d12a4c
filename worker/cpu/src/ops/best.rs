//! The likeliest tokens, without keeping the logits of all others.

use crate::{
    CpuError, Matrix, Operand, Tensor,
    disjoint::{Disjoint, Rectangle},
    pool::part,
};

use super::{
    Machine, SHARE_OF_PRODUCTS,
    linear::{multiply, pieces},
};

/// Groups of outputs that are computed before they are looked through: all rows of them stay in the
/// cache.
const GROUPS_AT_ONCE: usize = 8;
/// Outputs of as many groups.
const OUTPUTS_AT_ONCE: usize = GROUPS_AT_ONCE * crate::matrix::GROUP;

/// The greatest products of some rows, and of which outputs they are.
struct Best<'a> {
    /// `[2][rows]`: products, then outputs as whole numbers.
    found: &'a mut [f32],
}

impl<'a> Best<'a> {
    fn of(found: &'a mut [f32]) -> Self {
        Self { found }
    }

    /// Nothing found yet. What is no number never is.
    fn clear(&mut self) {
        let (products, outputs) = self.found.split_at_mut(self.found.len() / 2);
        products.fill(f32::NEG_INFINITY);
        outputs.fill(0.0);
    }

    /// Takes in a product; of equal ones that of the first output stays, in whatever order they come.
    fn take(&mut self, row: usize, product: f32, output: impl FnOnce() -> f32) {
        let (products, outputs) = self.found.split_at_mut(self.found.len() / 2);
        if product > products[row] {
            (products[row], outputs[row]) = (product, output());
        } else if product == products[row] && product > f32::NEG_INFINITY {
            outputs[row] = outputs[row].min(output());
        }
    }

    /// Takes in what others have found.
    fn take_all(&mut self, found: &[f32]) {
        let (products, outputs) = found.split_at(found.len() / 2);
        for (row, (&product, &output)) in products.iter().zip(outputs).enumerate() {
            self.take(row, product, || output);
        }
    }
}

/// For every row of `x`, the greatest of its products with the outputs of `w`, and its output's number
/// plus `first`, as a whole number: `[2][rows]`. Of equal products the first; negative infinity and
/// output 0, without `first`, if none is a number above that.
///
/// # Panics
/// As [`super::linear()`].
pub(crate) fn best(
    machine: &mut Machine,
    x: &Operand,
    w: &Matrix,
    first: usize,
) -> Result<Tensor, CpuError> {
    assert_eq!(x.columns(), w.inputs(), "as many columns as inputs");
    let rows = x.rows();
    let work = rows * w.inputs() * w.outputs();
    let threads = machine.pool.threads_for(work, SHARE_OF_PRODUCTS);
    let pieces = pieces(work, threads);
    let kernels = machine.kernels;
    let room = rows * (OUTPUTS_AT_ONCE + 2);
    let mut scratch = machine.workspace.take(threads * room)?;
    let found = |thread: usize| thread * room..thread * room + 2 * rows;
    for thread in 0..threads {
        Best::of(&mut scratch.as_mut_slice()[found(thread)]).clear();
    }
    let cells = Disjoint::new(scratch.as_mut_slice());
    machine.pool.run_pieces(threads, pieces, |thread, owner, piece| {
        // SAFETY: a thread computes one piece at a time.
        let scratch = unsafe { cells.part(thread * room..(thread + 1) * room) };
        let (found, products) = scratch.split_at_mut(2 * rows);
        let mut best = Best::of(found);
        let groups = part(&w.share(owner, threads), piece, pieces);
        for start in groups.clone().step_by(GROUPS_AT_ONCE) {
            let groups = start..groups.end.min(start + GROUPS_AT_ONCE);
            let outputs = w.outputs_of(groups.clone());
            let mut products = Rectangle::new(products, rows, outputs.len(), OUTPUTS_AT_ONCE);
            multiply(kernels, x, w, groups, &mut products, false);
            for row in 0..rows {
                let products = products.row(row);
                let greatest = kernels.greatest(products);
                best.take(row, greatest, || {
                    let place = products.iter().position(|&product| product == greatest);
                    (first + outputs.start + place.expect("it is one of them")) as f32
                });
            }
        }
    });
    let mut result = Tensor::new(&machine.workspace, 2, rows)?;
    let mut best = Best::of(result.as_mut_slice());
    best.clear();
    for thread in 0..threads {
        best.take_all(&scratch.as_slice()[found(thread)]);
    }
    Ok(result)
}

/// The best of what several ranks have found: `found` is `[ranks][2][rows]`. Gives one output a row.
pub(crate) fn best_of_ranks(found: &mut [f32], rows: usize, into: &mut Vec<u32>) {
    let (first, others) = found.split_at_mut(2 * rows);
    let mut best = Best::of(first);
    for other in others.chunks_exact(2 * rows.max(1)) {
        best.take_all(other);
    }
    into.extend(first[rows..].iter().map(|&output| output as u32));
}
