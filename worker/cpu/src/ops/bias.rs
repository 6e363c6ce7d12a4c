//! The bias of a linear layer.

use crate::{Tensor, Vector};

use super::{Machine, SHARE_OF_ELEMENTS};

/// Adds `bias` to every row of `x`.
///
/// # Panics
/// If there isn't one bias a column.
pub(crate) fn add_bias(machine: &mut Machine, x: &mut Tensor, bias: &Vector) {
    let columns = x.columns();
    assert_eq!(bias.0.len(), columns, "one bias a column");
    let threads = machine.pool.threads_for(x.rows() * columns, SHARE_OF_ELEMENTS);
    machine.pool.for_each_chunk(threads, x.as_mut_slice(), columns.max(1), |_, row| {
        for (x, bias) in row.iter_mut().zip(&bias.0) {
            *x += bias;
        }
    });
}
