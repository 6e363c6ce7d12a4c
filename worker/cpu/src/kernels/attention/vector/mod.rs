//! The kernels for instruction sets with vector registers. Only `avx2` and `avx512` know
//! instructions.

mod exp2;
mod fold;
mod mix;
mod product;
mod rotate;
mod score;
mod softmax;

#[macro_use]
mod entry;
#[macro_use]
mod simd;

mod avx2;
mod avx512;

pub(super) use crate::kernels::vector::{Avx2, Avx512};
pub(in crate::kernels) use avx512::Avx512Bf16;
