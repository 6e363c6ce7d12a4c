//! The CPU backend: quantised matrices, a paged cache and a few threads, behind
//! [`shardrun_model::Backend`].
//!
//! It computes one rank's share and knows no architecture and no request. Which instruction set and
//! which cores it uses is decided by whoever makes it.

mod backend;
mod batch;
mod cache;
mod disjoint;
mod error;
mod isa;
mod kernels;
mod matrix;
mod memory;
mod operand;
mod ops;
mod pool;
mod tensor;
#[cfg(test)]
mod testing;
mod workspace;

pub use backend::{Activations, CpuBackend, CpuOptions};
pub use batch::BatchError;
pub use error::CpuError;
pub use isa::Isa;
pub use kernels::Kernels;
pub use matrix::Matrix;
pub use memory::Vector;
pub use operand::Operand;
pub use tensor::Tensor;
