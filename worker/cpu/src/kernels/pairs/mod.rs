//! Products of weights and activations that are both rounded to bfloat16, added up in float32.
//!
//! Two inputs that follow each other are a pair, which one instruction multiplies and adds up. In what
//! order all are added is the instruction set's, but always the same along the inputs, whatever other
//! rows and outputs are computed with them. What is not a normal number counts as 0.

mod avx512;
mod chains;
mod expand;
mod tiles;
mod transpose;

pub(super) use avx512::round_row;
pub(super) use chains::multiply as multiply_chains;
pub(super) use tiles::multiply as multiply_tiles;

use crate::matrix::{GROUP, SUB_BLOCK};

/// Pairs of a block of inputs.
const PAIRS: usize = SUB_BLOCK / 2;

/// Thirty-two inputs of sixteen outputs as floats.
type Block = [[f32; GROUP]; SUB_BLOCK];

/// The same rounded: the words of sixteen pairs, each of sixteen outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct PairBlock([[u32; GROUP]; PAIRS]);
