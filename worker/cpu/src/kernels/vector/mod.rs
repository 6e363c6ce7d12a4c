//! The kernels for instruction sets with vector registers: written once over the trait
//! [`simd::Simd`], compiled once for each of its implementations. Only those know instructions.

mod elementwise;
#[macro_use]
mod entry;
mod formats;
#[macro_use]
mod simd;
mod tile;

mod avx2;
mod avx512;

pub(super) use avx2::Avx2;
pub(super) use avx512::Avx512;
