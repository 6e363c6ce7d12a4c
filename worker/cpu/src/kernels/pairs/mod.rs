//! Products of weights and activations that are both rounded to bfloat16, added up in float32.
//!
//! Two inputs that follow each other are a pair, which one instruction multiplies and adds up, one after
//! the other. So a product is one chain of multiply-adds along the inputs, and has the same bits whatever
//! other rows and outputs are computed with it. What is not a normal number counts as 0.

mod avx512;

use crate::{
    disjoint::Rectangle,
    kernels::{Kernels, attention::Avx512Bf16},
    matrix::{GROUP, Run, SUB_BLOCK},
    operand::PairPanels,
};

/// Blocks of inputs that are rounded at once: 8 KiB, which leaves room for a panel's in the first-level
/// cache.
const CHUNK: usize = 8;

/// Pairs of a block of inputs.
const PAIRS: usize = SUB_BLOCK / 2;

/// Thirty-two inputs of sixteen outputs as floats.
type Block = [[f32; GROUP]; SUB_BLOCK];

/// The same rounded: the words of sixteen pairs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct PairBlock([[u32; GROUP]; PAIRS]);

/// One panel, some blocks of weights, and where their products go.
struct Tile<'a, 'b> {
    blocks: &'a [PairBlock],
    /// Pairs of all blocks; the last one may have fewer than it has room for.
    pairs: usize,
    /// `[pairs][rows]`
    panel: &'a [u32],
    /// Whether what is in the products counts.
    add: bool,
    products: Rectangle<'b>,
}

/// Products of all rows with all outputs of `run`.
pub(super) fn multiply(
    kernels: Kernels,
    bf16: Avx512Bf16,
    run: &Run<'_>,
    x: &PairPanels,
    products: &mut Rectangle<'_>,
) {
    let mut blocks = [PairBlock([[0; GROUP]; PAIRS]); CHUNK];
    let count = x.columns().div_ceil(PAIRS);
    for group in 0..run.groups() {
        let outputs = group * GROUP..products.columns().min((group + 1) * GROUP);
        for start in (0..count).step_by(CHUNK) {
            let chunk = start..count.min(start + CHUNK);
            for (at, rounded) in chunk.clone().zip(&mut blocks) {
                let mut block = [[0.0; GROUP]; SUB_BLOCK];
                kernels.expand_block(run, group, at, &mut block);
                avx512::round(bf16, &block, rounded);
            }
            let pairs = start * PAIRS..x.columns().min(chunk.end * PAIRS);
            for (rows, panel) in x.panels() {
                let width = rows.len();
                let tile = Tile {
                    blocks: &blocks[..chunk.len()],
                    pairs: pairs.len(),
                    panel: &panel[pairs.start * width..pairs.end * width],
                    add: start > 0,
                    products: products.part(rows, outputs.clone()),
                };
                avx512::multiply(bf16, tile);
            }
        }
    }
}
