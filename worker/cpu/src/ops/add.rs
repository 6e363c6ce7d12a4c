//! The residual add.

use crate::Tensor;

use super::{Machine, SHARE_OF_ELEMENTS};

/// Elements that a thread takes at a time; a whole number of cache lines.
const CHUNK: usize = 1024;

/// Adds `x` to `sum`, element by element.
///
/// # Panics
/// If the shapes differ.
pub(crate) fn add(machine: &mut Machine, sum: &mut Tensor, x: &Tensor) {
    assert_eq!((sum.rows(), sum.columns()), (x.rows(), x.columns()), "tensors of one shape");
    let x = x.as_slice();
    let kernels = machine.kernels;
    let threads = machine.pool.threads_for(x.len(), SHARE_OF_ELEMENTS);
    machine.pool.for_each_chunk(threads, sum.as_mut_slice(), CHUNK, |chunk, sum| {
        kernels.add(sum, &x[chunk * CHUNK..][..sum.len()]);
    });
}
