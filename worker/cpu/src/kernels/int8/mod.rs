//! Products of quantised weights with quantised activations.
//!
//! Of a sub-block, a row's product with an output is a sum of whole numbers, which is exact; it is
//! multiplied by both scales and added to the output's sum by one fused multiply-add, sub-block after
//! sub-block; halves with scales of their own one after the other. Types with minima first add the minimum
//! times the row's sum. So every kernel gives the
//! same bits, whatever its registers hold and however many rows it takes at once.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::scales;

use super::plane::Plane;
use crate::{
    disjoint::Rectangle,
    matrix::{
        GROUP, QuantType, QuantWeights, SUB_BLOCK,
        quants::{Quants, with_quants},
    },
    memory::fetch,
    operand::{QuantPanels, TOKEN_BYTES},
    pool::part,
};

/// Sub-blocks that are unpacked at once: 18 KiB, which leaves room for a panel's in the first-level
/// cache.
const CHUNK: usize = 24;
const _: () = assert!(CHUNK.is_multiple_of(2), "pairs of sub-blocks");

/// What an instruction set brings.
///
/// # Safety
/// Callers of the functions vouch for the records and panels that they point to.
pub(super) trait Int8: Copy {
    /// Most rows of a panel.
    const PANEL_ROWS: usize;
    /// Most rows for which weights are used straight from their records.
    const FEW_ROWS: usize;
    /// What [`Self::tile`] needs of the thread.
    type Session;

    /// Readies the thread.
    fn begin(self) -> Self::Session;

    /// Unpacks sub-blocks of the group at `group`.
    unsafe fn unpack<Q: Quants>(
        self,
        group: *const u8,
        sub_blocks: Range<usize>,
        planes: &mut [Plane],
    );

    /// Products of a whole group with a panel of up to [`Self::FEW_ROWS`] rows, on top of what is in the sums
    /// if `add`. With `fetch`, asks for what lies some sub-blocks ahead in memory.
    unsafe fn few<Q: Quants>(
        self,
        group: *const u8,
        sub_blocks: Range<usize>,
        add: bool,
        fetch: bool,
        sums: Sums<'_, '_>,
    );

    /// Products of unpacked weights with a panel, on top of what is in the sums if `add`. The next call is for
    /// the same weights and the panel `next`, if there is one.
    unsafe fn tile<Q: Quants>(
        self,
        session: &mut Self::Session,
        planes: &[Plane],
        add: bool,
        next: Option<Panel>,
        sums: Sums<'_, '_>,
    );
}

/// Some sub-blocks of a few rows.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The record of the first.
    records: *const u8,
    /// How many rows.
    width: usize,
}

/// One panel and where its products with one group go.
pub(super) struct Sums<'a, 'b> {
    panel: Panel,
    /// The panel's first row, as a row of `products`.
    first_row: usize,
    /// The group's first output.
    first: usize,
    products: &'a mut Rectangle<'b>,
}

impl Sums<'_, '_> {
    /// The outputs of the panel's row `row`: sixteen, or what is left of them.
    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [f32] {
        let first = self.first;
        let outputs = self.products.row(self.first_row + row);
        let end = outputs.len().min(first + GROUP);
        &mut outputs[first..end]
    }
}

/// Whether AMX is faster than AVX-512 with so many rows. Halves with scales of their own would leave half of
/// its tiles empty.
#[cfg(target_arch = "x86_64")]
pub(super) fn tiles_pay(quant_type: QuantType, rows: usize) -> bool {
    /// From so many on.
    const ROWS: usize = 48;
    rows >= ROWS && with_quants!(quant_type, Q => !Q::HALVES)
}

/// All products of `weights` with all rows, on top of what is there if `add`.
pub(super) fn multiply<K: Int8>(
    kernels: K,
    weights: &QuantWeights<'_>,
    x: &QuantPanels,
    products: &mut Rectangle<'_>,
    add: bool,
) {
    with_quants!(weights.quant_type, Q => multiply_type::<K, Q>(kernels, weights, x, products, add));
}

fn multiply_type<K: Int8, Q: Quants>(
    kernels: K,
    weights: &QuantWeights<'_>,
    x: &QuantPanels,
    products: &mut Rectangle<'_>,
    add: bool,
) {
    let QuantWeights { records, group_bytes, ref sub_blocks, .. } = *weights;
    let panels = |skipped: usize| {
        x.panels().map(move |(rows, records)| {
            let width = rows.len();
            let records = records[skipped * TOKEN_BYTES * width..].as_ptr();
            (rows.start, Panel { records, width })
        })
    };
    if x.rows() <= K::FEW_ROWS {
        for group in 0..weights.groups {
            let records = records[group * group_bytes..].as_ptr();
            for (first_row, panel) in panels(0) {
                let (first, fetch) = (group * GROUP, first_row == 0);
                let sums = Sums { panel, first_row, first, products: &mut *products };
                // SAFETY: the weights were checked, and a panel has as many sub-blocks as they do.
                unsafe { kernels.few::<Q>(records, sub_blocks.clone(), add, fetch, sums) };
            }
        }
        return;
    }
    let mut session = kernels.begin();
    let mut planes = [Plane::default(); CHUNK];
    let chunks = sub_blocks.len().div_ceil(CHUNK);
    for group in 0..weights.groups {
        for at in 0..chunks {
            // An odd number of sub-blocks interrupts what AMX does meanwhile, so that only the last may be odd.
            let pairs = part(&(0..sub_blocks.len().div_ceil(2)), at, chunks);
            let end = sub_blocks.end.min(sub_blocks.start + 2 * pairs.end);
            let chunk = sub_blocks.start + 2 * pairs.start..end;
            let planes = &mut planes[..chunk.len()];
            let base = records[group * group_bytes..].as_ptr();
            // SAFETY: as above.
            unsafe { kernels.unpack::<Q>(base, chunk.clone(), planes) };
            // What will be unpacked next is fetched meanwhile, a share with every panel.
            let after = group * group_bytes + Q::places(chunk.end).0;
            let ahead = &records[after.min(records.len())..];
            let ahead = &ahead[..ahead.len().min(chunk.len() * Q::RECORD / Q::SUB_BLOCKS)];
            let mut ahead = ahead.chunks(ahead.len().div_ceil(x.panel_count()).max(1));
            let mut panels = panels(chunk.start - sub_blocks.start).peekable();
            while let Some((first_row, panel)) = panels.next() {
                fetch(ahead.next().unwrap_or_default());
                let next = panels.peek().map(|&(_, panel)| panel);
                let sums =
                    Sums { panel, first_row, first: group * GROUP, products: &mut *products };
                // SAFETY: as above.
                unsafe { kernels.tile::<Q>(&mut session, planes, add || at > 0, next, sums) };
            }
        }
    }
}

/// Unpacks sub-blocks of one group.
pub(super) fn unpack<K: Int8>(
    kernels: K,
    weights: &QuantWeights<'_>,
    group: usize,
    sub_blocks: Range<usize>,
    planes: &mut [Plane],
) {
    let group = weights.records[group * weights.group_bytes..].as_ptr();
    // SAFETY: the weights were checked.
    with_quants!(weights.quant_type, Q => unsafe {
        kernels.unpack::<Q>(group, sub_blocks, planes);
    });
}

/// Where the words of a sub-block's rows begin in a panel of `width` rows.
struct Words;

impl Words {
    const fn scales(width: usize) -> usize {
        width * SUB_BLOCK
    }
    const fn scaled_sums(width: usize) -> usize {
        width * (SUB_BLOCK + 4)
    }
    const fn low_sums(width: usize) -> usize {
        width * (SUB_BLOCK + 8)
    }
    const fn high_sums(width: usize) -> usize {
        width * (SUB_BLOCK + 12)
    }
}
