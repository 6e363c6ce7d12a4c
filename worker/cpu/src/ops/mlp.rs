//! The first half of a gated feed-forward layer.

use crate::{
    CpuError, Matrix, Operand,
    disjoint::{Disjoint, Rectangle},
    matrix::{GROUP, SUB_BLOCK},
    operand::Rows,
    pool::{part, share},
};

use super::{
    Machine, SHARE_OF_PRODUCTS,
    linear::{multiply, pieces},
};

/// Columns that are computed before they are put together, where there are enough for all threads: with
/// few rows, so many that weights are streamed in long runs; with many, so few that gates and ups of all
/// rows stay in the cache.
const COLUMNS: [usize; 2] = [4 * SUB_BLOCK, SUB_BLOCK];
/// Rows that are few.
const FEW_ROWS: usize = 16;

/// `silu(gate) * up` for the outputs of `gate_up`, the first half of which are gates.
///
/// # Panics
/// If the number of outputs is odd, or `x` doesn't go with the matrix.
pub(crate) fn gated_linear(
    machine: &mut Machine,
    x: &Operand,
    gate_up: &Matrix,
) -> Result<Operand, CpuError> {
    let (rows, columns) = (x.rows(), gate_up.outputs() / 2);
    assert!(gate_up.outputs().is_multiple_of(2), "as many gates as ups");
    assert_eq!(x.columns(), gate_up.inputs(), "as many columns as inputs");
    let Machine { kernels, forms, .. } = *machine;
    let mut products = Operand::new(&machine.workspace, rows, columns, kernels, forms)?;
    if rows == 0 || columns == 0 {
        return Ok(products);
    }
    let writer = products.writer();
    let work = rows * gate_up.inputs() * gate_up.outputs();
    let threads = machine.pool.threads_for(work, SHARE_OF_PRODUCTS);
    let mut at_once = COLUMNS[usize::from(rows > FEW_ROWS)];
    while at_once > SUB_BLOCK && columns.div_ceil(at_once) < threads {
        at_once /= 2;
    }
    let units = columns.div_ceil(at_once);
    let threads = threads.min(units);
    let pieces = pieces(work, threads);
    // Gates and ups of some columns and all rows.
    let stride = 2 * at_once;
    let room = rows * stride;
    let mut scratch = machine.workspace.take(threads * room)?;
    let scratch = Disjoint::new(scratch.as_mut_slice());
    machine.pool.run_pieces(threads, pieces, |thread, owner, piece| {
        // SAFETY: a thread computes one piece at a time.
        let scratch = unsafe { scratch.part(thread * room..(thread + 1) * room) };
        for unit in part(&share(units, owner, threads), piece, pieces) {
            let first = unit * at_once;
            let end = columns.min(first + at_once);
            let mut both = Rectangle::new(scratch, rows, stride, stride);
            for half in 0..2 {
                let outputs = half * columns + first..half * columns + end;
                let place = half * at_once;
                let mut products = both.part(0..rows, place..place + outputs.len());
                multiply(kernels, x, gate_up, gate_up.groups_of(outputs), &mut products, false);
            }
            // As many rows as a panel has at most become an operand's at once.
            for (some, both) in scratch[..rows * stride].chunks_mut(GROUP * stride).enumerate() {
                for both in both.chunks_mut(stride) {
                    let (gates, ups) = both.split_at_mut(at_once);
                    kernels.silu_mul(&mut gates[..end - first], &ups[..end - first]);
                }
                let gates = Rows::new(both, both.len() / stride, end - first, stride);
                // SAFETY: columns are cut into pieces.
                unsafe { writer.put(kernels, some * GROUP, first, gates) };
            }
        }
    });
    Ok(products)
}
