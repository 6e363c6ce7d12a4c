//! With AMX, a block of thirty-two inputs of sixteen outputs is one tile, which is multiplied with sixteen
//! rows at once. Of a block, the first inputs of all pairs are one chain of multiply-adds and the second
//! ones another; their sum is added to the product.
//!
//! Where a panel has fewer than sixteen rows, the tile's other columns are whatever follows in memory, and so
//! are their products, which nobody reads.

use std::{arch::asm, mem::MaybeUninit, ops::Range};

use super::{
    PAIRS,
    avx512::store_products,
    expand::{TileBlock, expand},
};
use crate::{
    disjoint::Rectangle,
    kernels::{
        Kernels,
        amx::{Amx, TILE_BYTES, TILE_ROWS, Tiles},
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
    let _tiles = Tiles::new(amx);
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
                multiply_band(amx, &weights, band, &place, &mut sums, products);
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
    amx: Amx,
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
            step(place.groups.len(), weights, inputs, blocks.len(), place.add, sums.as_mut_ptr());
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
struct Inputs {
    first: *const u32,
    width: usize,
}

/// Multiplies `blocks` blocks of up to two groups and two panels, and writes sums as
/// `[groups][2 panels]`, adding what is there if `add`.
///
/// # Safety
/// The thread has tiles. There are as many blocks of weights and inputs, and sixteen words where a row
/// of a panel begins, and the sums if they are to be added.
unsafe fn step(
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
            (1, None) => tiles_1_1(weights, [&first, &first], blocks, add, sums),
            (1, Some(second)) => tiles_1_2(weights, [&first, &second], blocks, add, sums),
            (_, None) => tiles_2_1(weights, [&first, &first], blocks, add, sums),
            (_, Some(second)) => tiles_2_2(weights, [&first, &second], blocks, add, sums),
        }
    }
}

/// The loop over blocks for some groups and panels. Tiles 0 to 3 are the sums, 4 and 5 the groups, 6 and 7
/// the panels.
macro_rules! tiles {
    ($name:ident, zero: $zero:literal, load: $load:literal, multiply: $multiply:literal, store: $store:literal) => {
        unsafe fn $name(
            [weights, other]: [*const TileBlock; 2],
            [inputs, others]: [&Inputs; 2],
            blocks: usize,
            add: bool,
            sums: *mut MaybeUninit<Sums>,
        ) {
            // SAFETY: the caller of `step` vouches for all that is read and written.
            unsafe {
                asm!(
                    "test {add}, {add}",
                    "jnz 3f",
                    $zero,
                    "jmp 2f",
                    "3:",
                    $load,
                    "2:",
                    $multiply,
                    "add {w0}, 1024",
                    "lea {x0}, [{x0} + {s0}*8]",
                    "lea {x0}, [{x0} + {s0}*8]",
                    "lea {x1}, [{x1} + {s1}*8]",
                    "lea {x1}, [{x1} + {s1}*8]",
                    "dec {blocks}",
                    "jnz 2b",
                    $store,
                    "/* {other} */",
                    add = in(reg) usize::from(add),
                    w0 = inout(reg) weights => _,
                    other = in(reg) other as isize - weights as isize,
                    x0 = inout(reg) inputs.first => _,
                    x1 = inout(reg) others.first => _,
                    s0 = in(reg) 4 * inputs.width,
                    s1 = in(reg) 4 * others.width,
                    line = in(reg) 64usize,
                    blocks = inout(reg) blocks => _,
                    sums = in(reg) sums,
                    options(nostack),
                );
            }
        }
    };
}

tiles!(
    tiles_1_1,
    zero: "tilezero tmm0",
    load: "tileloadd tmm0, [{sums} + {line}]",
    multiply: "tileloadd tmm4, [{w0} + {line}]
        tileloadd tmm6, [{x0} + {s0}]
        tdpbf16ps tmm0, tmm4, tmm6",
    store: "tilestored [{sums} + {line}], tmm0"
);
tiles!(
    tiles_1_2,
    zero: "tilezero tmm0
        tilezero tmm1",
    load: "tileloadd tmm0, [{sums} + {line}]
        tileloadd tmm1, [{sums} + {line} + 1024]",
    multiply: "tileloadd tmm4, [{w0} + {line}]
        tileloadd tmm6, [{x0} + {s0}]
        tdpbf16ps tmm0, tmm4, tmm6
        tileloadd tmm7, [{x1} + {s1}]
        tdpbf16ps tmm1, tmm4, tmm7",
    store: "tilestored [{sums} + {line}], tmm0
        tilestored [{sums} + {line} + 1024], tmm1"
);
tiles!(
    tiles_2_1,
    zero: "tilezero tmm0
        tilezero tmm2",
    load: "tileloadd tmm0, [{sums} + {line}]
        tileloadd tmm2, [{sums} + {line} + 2048]",
    multiply: "tileloadd tmm6, [{x0} + {s0}]
        tileloadd tmm4, [{w0} + {line}]
        tdpbf16ps tmm0, tmm4, tmm6
        add {w0}, {other}
        tileloadd tmm5, [{w0} + {line}]
        sub {w0}, {other}
        tdpbf16ps tmm2, tmm5, tmm6",
    store: "tilestored [{sums} + {line}], tmm0
        tilestored [{sums} + {line} + 2048], tmm2"
);
tiles!(
    tiles_2_2,
    zero: "tilezero tmm0
        tilezero tmm1
        tilezero tmm2
        tilezero tmm3",
    load: "tileloadd tmm0, [{sums} + {line}]
        tileloadd tmm1, [{sums} + {line} + 1024]
        tileloadd tmm2, [{sums} + {line} + 2048]
        tileloadd tmm3, [{sums} + {line} + 3072]",
    multiply: "tileloadd tmm4, [{w0} + {line}]
        tileloadd tmm6, [{x0} + {s0}]
        tdpbf16ps tmm0, tmm4, tmm6
        tileloadd tmm7, [{x1} + {s1}]
        tdpbf16ps tmm1, tmm4, tmm7
        add {w0}, {other}
        tileloadd tmm5, [{w0} + {line}]
        sub {w0}, {other}
        tdpbf16ps tmm2, tmm5, tmm6
        tdpbf16ps tmm3, tmm5, tmm7",
    store: "tilestored [{sums} + {line}], tmm0
        tilestored [{sums} + {line} + 1024], tmm1
        tilestored [{sums} + {line} + 2048], tmm2
        tilestored [{sums} + {line} + 3072], tmm3"
);
