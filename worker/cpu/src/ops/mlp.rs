//! The middle of a gated feed-forward layer.

use crate::{CpuError, Operand, Tensor, matrix::SUB_BLOCK, pool::share};

use super::{Machine, SHARE_OF_ELEMENTS};

/// Columns that are computed at a time.
const CHUNK: usize = 256;
/// Columns by which work is cut.
const UNIT: usize = SUB_BLOCK;
/// An exponential and a division make an element worth several plain ones.
const ELEMENT: usize = 8;

/// `silu(gate) * up`, where a row of `gate_up` holds all gates, then all ups.
///
/// # Panics
/// If the number of columns is odd.
pub(crate) fn gated_mlp(machine: &mut Machine, gate_up: &Tensor) -> Result<Operand, CpuError> {
    let rows = gate_up.rows();
    assert!(gate_up.columns().is_multiple_of(2), "as many gates as ups");
    let columns = gate_up.columns() / 2;
    let Machine { kernels, forms, .. } = *machine;
    let mut products = Operand::new(&machine.workspace, rows, columns, kernels, forms)?;
    let writer = products.writer();
    let threads = machine.pool.threads_for(rows * columns * ELEMENT, SHARE_OF_ELEMENTS);
    machine.pool.run(threads, |thread, threads| {
        let units = share(columns.div_ceil(UNIT), thread, threads);
        let mine = units.start * UNIT..columns.min(units.end * UNIT);
        for row in 0..rows {
            let (gates, ups) = gate_up.row(row).split_at(columns);
            for first in mine.clone().step_by(CHUNK) {
                let end = mine.end.min(first + CHUNK);
                let mut chunk = [0.0; CHUNK];
                let chunk = &mut chunk[..end - first];
                chunk.copy_from_slice(&gates[first..end]);
                kernels.silu_mul(chunk, &ups[first..end]);
                // SAFETY: columns are cut among the threads.
                unsafe { writer.put(kernels, row, first, chunk) };
            }
        }
    });
    Ok(products)
}
