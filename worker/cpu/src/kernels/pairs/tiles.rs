//! With AMX, a block of thirty-two inputs of sixteen outputs is one tile, which is multiplied with sixteen
//! rows at once. Of a block, the first inputs of all pairs are one chain of multiply-adds and the second
//! ones another; their sum is added to the product.
//!
//! Where a panel has fewer than sixteen rows, the tile's other columns are whatever follows in memory, and so
//! are their products, which nobody reads.

use std::{mem::MaybeUninit, ops::Range};

use super::{
    PAIRS,
    avx512::store_products,
    expand::{TileBlock, expand},
};
use crate::{
    disjoint::Rectangle,
    kernels::{
        Kernels,
        amx::{Amx, TILE_BYTES, TILE_ROWS, TileShapes, Tiles},
    },
    matrix::{GROUP, Run},
    operand::PairPanels,
    pool::part,
};

/// Blocks of inputs that are rounded at once, of two groups: 36 KiB, which leaves room for a panel's in the
/// first-level cache.
const CHUNK: usize = 18;

/// Panels for which weights stay rounded while sums of a part of the inputs are put aside: 64 KiB of them.
const BAND: usize = 32;

/// A tile of sums: `[outputs of a group][rows of a panel]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; TILE_ROWS]; GROUP]);

/// Products of all rows with all outputs of `run`.
pub(in crate::kernels) fn multiply(
    kernels: Kernels,
    amx: Amx,
    run: &Run<'_>,
    x: &PairPanels,
    products: &mut Rectangle<'_>,
) {
    const { assert!(size_of::<TileBlock>() == TILE_BYTES && size_of::<Sums>() == TILE_BYTES) };
    static SHAPES: TileShapes = TileShapes::new([(TILE_ROWS, TILE_BYTES / TILE_ROWS); 8]);
    let tiles = Tiles::new(amx, &SHAPES);
    let mut weights = [[const { MaybeUninit::uninit() }; CHUNK]; 2];
    let mut sums = [const { MaybeUninit::uninit() }; 2 * BAND];
    let blocks = x.columns() / PAIRS;
    let chunks = blocks.div_ceil(CHUNK);
    let panels: usize = x.panels().count();
    for first in (0..run.groups()).step_by(2) {
        let groups = first..run.groups().min(first + 2);
        for band in 0..panels.div_ceil(BAND) {
            for at in 0..chunks {
                let chunk = part(&(0..blocks), at, chunks);
                for (group, weights) in groups.clone().zip(&mut weights) {
                    expand(kernels, amx, run, group, chunk.clone(), weights);
                }
                let place =
                    Place { groups: groups.clone(), chunk, add: at > 0, last: at + 1 == chunks };
                let band = x.panels().skip(band * BAND).take(BAND);
                multiply_band((amx, &tiles), &weights, band, &place, &mut sums, products);
            }
        }
    }
}

/// Which groups are multiplied along which inputs.
struct Place {
    groups: Range<usize>,
    /// Blocks of inputs.
    chunk: Range<usize>,
    /// Whether there are sums of the inputs before.
    add: bool,
    /// Whether these inputs are the last.
    last: bool,
}

/// One or two panels and one or two groups.
fn multiply_band<'x>(
    (amx, tiles): (Amx, &Tiles),
    weights: &[[MaybeUninit<TileBlock>; CHUNK]; 2],
    mut panels: impl Iterator<Item = (Range<usize>, &'x [u32])>,
    place: &Place,
    sums: &mut [MaybeUninit<Sums>; 2 * BAND],
    products: &mut Rectangle<'_>,
) {
    let mut sums = sums.chunks_exact_mut(4);
    let blocks = place.chunk.clone();
    while let Some(first) = panels.next() {
        let second = panels.next();
        let sums = sums.next().expect("room for the sums of a band");
        let both = [Some(&first), second.as_ref()];
        let inputs = both.map(|panel| {
            panel.map(|(rows, items)| Inputs {
                first: items[blocks.start * PAIRS * rows.len()..].as_ptr(),
                width: rows.len(),
            })
        });
        // SAFETY: as many tiles of weights were written, a panel has as many blocks, and where sums are to be
        // added they were written, too.
        unsafe {
            let weights = weights.each_ref().map(|weights| weights.as_ptr().cast());
            let sums = sums.as_mut_ptr();
            step(tiles, place.groups.len(), weights, inputs, blocks.len(), place.add, sums);
        }
        if !place.last {
            continue;
        }
        for (panel, rows) in both.into_iter().flatten().map(|(rows, _)| rows).enumerate() {
            for (at, group) in place.groups.clone().enumerate() {
                let outputs = group * GROUP..products.columns().min((group + 1) * GROUP);
                let mut products = products.part(rows.clone(), outputs);
                // SAFETY: the last step wrote the sums of all groups and panels.
                let sums = unsafe { sums[2 * at + panel].assume_init_ref() };
                store_products(amx, sums, &mut products);
            }
        }
    }
}

/// Blocks of a panel.
#[derive(Clone, Copy)]
struct Inputs {
    first: *const u32,
    width: usize,
}

/// Multiplies `blocks` blocks of up to two groups and two panels, and writes sums as
/// `[groups][2 panels]`, adding what is there if `add`.
///
/// # Safety
/// There are as many blocks of weights and inputs, and sixteen words where a row of a panel begins, and
/// the sums if they are to be added.
unsafe fn step(
    tiles: &Tiles,
    groups: usize,
    weights: [*const TileBlock; 2],
    inputs: [Option<Inputs>; 2],
    blocks: usize,
    add: bool,
    sums: *mut MaybeUninit<Sums>,
) {
    let [first, second] = inputs;
    let first = first.expect("at least one panel");
    // SAFETY: the caller's promises.
    unsafe {
        match (groups, second) {
            (1, None) => step_of::<1, 1>(tiles, weights, [first, first], blocks, add, sums),
            (1, Some(second)) => {
                step_of::<1, 2>(tiles, weights, [first, second], blocks, add, sums);
            }
            (_, None) => step_of::<2, 1>(tiles, weights, [first, first], blocks, add, sums),
            (_, Some(second)) => {
                step_of::<2, 2>(tiles, weights, [first, second], blocks, add, sums);
            }
        }
    }
}

/// The same for `G` groups and `P` panels. Tiles 0 to 3 are the sums, 4 and 5 the groups, 6 and 7 the
/// panels.
///
/// # Safety
/// As [`step`].
unsafe fn step_of<const G: usize, const P: usize>(
    tiles: &Tiles,
    weights: [*const TileBlock; 2],
    mut inputs: [Inputs; 2],
    blocks: usize,
    add: bool,
    sums: *mut MaybeUninit<Sums>,
) {
    /// Bytes from a row of a tile of weights or sums to the next.
    const LINE: usize = TILE_BYTES / TILE_ROWS;
    let sums: [*mut u8; 4] = std::array::from_fn(|at| sums.wrapping_add(at).cast());
    // SAFETY: the caller vouches for all that is read and written.
    unsafe {
        if add {
            tiles.load::<0>(sums[0], LINE);
            if P == 2 {
                tiles.load::<1>(sums[1], LINE);
            }
            if G == 2 {
                tiles.load::<2>(sums[2], LINE);
                if P == 2 {
                    tiles.load::<3>(sums[3], LINE);
                }
            }
        } else {
            tiles.zero::<0>();
            tiles.zero::<1>();
            tiles.zero::<2>();
            tiles.zero::<3>();
        }
        for block in 0..blocks {
            tiles.load::<4>(weights[0].add(block).cast(), LINE);
            tiles.load::<6>(inputs[0].first.cast(), 4 * inputs[0].width);
            tiles.multiply_pairs::<0, 4, 6>();
            if P == 2 {
                tiles.load::<7>(inputs[1].first.cast(), 4 * inputs[1].width);
                tiles.multiply_pairs::<1, 4, 7>();
            }
            if G == 2 {
                tiles.load::<5>(weights[1].add(block).cast(), LINE);
                tiles.multiply_pairs::<2, 5, 6>();
                if P == 2 {
                    tiles.multiply_pairs::<3, 5, 7>();
                }
            }
            for panel in &mut inputs {
                panel.first = panel.first.wrapping_add(PAIRS * panel.width);
            }
        }
        tiles.store::<0>(sums[0], LINE);
        if P == 2 {
            tiles.store::<1>(sums[1], LINE);
        }
        if G == 2 {
            tiles.store::<2>(sums[2], LINE);
            if P == 2 {
                tiles.store::<3>(sums[3], LINE);
            }
        }
    }
}
