//! With AVX-512 alone, a product is one chain of multiply-adds: pair after pair, of each its second input
//! first.

use super::{Block, PAIRS, PairBlock, avx512};
use crate::{
    disjoint::Rectangle,
    kernels::{Kernels, attention::Avx512Bf16},
    matrix::{GROUP, Run, SUB_BLOCK},
    operand::PairPanels,
};

/// Blocks of inputs that are rounded at once: 8 KiB, which leaves room for a panel's in the first-level
/// cache.
const CHUNK: usize = 8;

/// One panel, some blocks of weights, and where their products go.
pub(super) struct Tile<'a, 'b> {
    pub(super) blocks: &'a [PairBlock],
    /// Pairs of all blocks; the last one may have fewer than it has room for.
    pub(super) pairs: usize,
    /// `[pairs][rows]`
    pub(super) panel: &'a [u32],
    /// Whether what is in the products counts.
    pub(super) add: bool,
    pub(super) products: Rectangle<'b>,
}

/// Products of all rows with all outputs of `run`.
pub(in crate::kernels) fn multiply(
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
                let mut block: Block = [[0.0; GROUP]; SUB_BLOCK];
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
