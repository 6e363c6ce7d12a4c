//! With AMX, up to sixteen queries and the bfloat16 of sixteen tokens are multiplied at once, keys and
//! values alike: in the cache their pairs lie as tiles do.
//!
//! A score adds up thirty-two elements at a time, a sum of values the sixteen tokens of a group. Of a group
//! that some queries see only a part of, each row's queries get a copy, with zeros for the rest.

use std::ops::Range;

use shardrun_model::CacheType;

use crate::{
    disjoint::Rectangle,
    kernels::amx::{Amx, TILE_BYTES, TileShapes, Tiles},
    matrix::GROUP,
};

use super::{Strip, StripHeads, rows};

/// Elements of queries and keys that tiles have.
const ELEMENTS: usize = 32;
/// Bytes of a row of all tiles but weights.
const LINE: usize = 64;
/// Bytes of a query's weights of a group, bfloat16.
const WEIGHTS: usize = 2 * GROUP;
/// Bytes of the values that a pair of tokens has of one dimension.
const PAIR_BYTES: usize = 4;
/// Pairs of tokens of a group.
const PAIRS: usize = GROUP / 2;
/// Tiles that are scores of so many groups, or sums of sixteen times so many dimensions.
const SUMS: usize = 4;

/// The tiles for one query, two, and so on: 0 to 3 are scores or sums, 4 queries, 5 weights, 6 keys, 7
/// values.
static SHAPES: [TileShapes; GROUP] = {
    let mut shapes = [const { shapes(1) }; GROUP];
    let mut queries = 2;
    while queries <= GROUP {
        shapes[queries - 1] = self::shapes(queries);
        queries += 1;
    }
    shapes
};

const fn shapes(queries: usize) -> TileShapes {
    let line = (queries, LINE);
    let (keys, values) = ((ELEMENTS / 2, LINE), (PAIRS, LINE));
    TileShapes::new([line, line, line, line, line, (queries, WEIGHTS), keys, values])
}

/// Whether keys and values lie as tiles do.
pub(super) fn fit(heads: StripHeads) -> bool {
    let StripHeads { dtype, dim, group_tokens } = heads;
    dtype == CacheType::Bf16 && group_tokens == GROUP && dim.is_multiple_of(ELEMENTS)
}

/// See `AttentionKernels::score`.
///
/// # Safety
/// The strip's heads [`fit`]; all queries and scores are there, at most sixteen.
pub(super) unsafe fn score(
    amx: Amx,
    strip: &Strip<'_>,
    queries: &[f32],
    scores: &mut Rectangle<'_>,
) {
    let tiles = Tiles::new(amx, &SHAPES[scores.rows() - 1]);
    let (place, stride) = scores.raw();
    for first in (0..strip.groups.len()).step_by(SUMS) {
        let strip = strip.part(first..strip.groups.len().min(first + SUMS));
        let place = place.wrapping_add(first * GROUP);
        // SAFETY: the caller's promises.
        unsafe {
            match strip.groups {
                [_] => score_groups::<1>(amx, &tiles, &strip, queries, (place, stride)),
                [_, _] => score_groups::<2>(amx, &tiles, &strip, queries, (place, stride)),
                [_, _, _] => score_groups::<3>(amx, &tiles, &strip, queries, (place, stride)),
                _ => score_groups::<SUMS>(amx, &tiles, &strip, queries, (place, stride)),
            }
        }
    }
}

/// Scores for a strip of `G` groups, in rows that are `stride` floats apart.
///
/// # Safety
/// As [`score`].
unsafe fn score_groups<const G: usize>(
    amx: Amx,
    tiles: &Tiles,
    strip: &Strip<'_>,
    queries: &[f32],
    (place, stride): (*mut f32, usize),
) {
    tiles.zero::<0>();
    tiles.zero::<1>();
    tiles.zero::<2>();
    tiles.zero::<3>();
    for part in 0..strip.dim() / ELEMENTS {
        let queries = queries.as_ptr().wrapping_add(part * ELEMENTS / 2);
        let keys = |group: usize| {
            if let Some(ahead) = strip.ahead.get(group) {
                amx.without_amx().prefetch(&ahead.keys[part * TILE_BYTES..][..TILE_BYTES]);
            }
            strip.groups[group].keys[part * TILE_BYTES..].as_ptr()
        };
        // SAFETY: a packed query's pairs begin its place, which is as many floats as a head is wide; a
        // group has a tile of keys for each part.
        unsafe {
            tiles.load::<4>(queries.cast(), 4 * strip.dim());
            tiles.load::<6>(keys(0), LINE);
            tiles.multiply_pairs::<0, 4, 6>();
            if G > 1 {
                tiles.load::<6>(keys(1), LINE);
                tiles.multiply_pairs::<1, 4, 6>();
            }
            if G > 2 {
                tiles.load::<6>(keys(2), LINE);
                tiles.multiply_pairs::<2, 4, 6>();
            }
            if G > 3 {
                tiles.load::<6>(keys(3), LINE);
                tiles.multiply_pairs::<3, 4, 6>();
            }
        }
    }
    // SAFETY: there is room for all queries' scores of so many groups.
    unsafe {
        tiles.store::<0>(place.cast(), 4 * stride);
        if G > 1 {
            tiles.store::<1>(place.add(GROUP).cast(), 4 * stride);
        }
        if G > 2 {
            tiles.store::<2>(place.add(2 * GROUP).cast(), 4 * stride);
        }
        if G > 3 {
            tiles.store::<3>(place.add(3 * GROUP).cast(), 4 * stride);
        }
    }
}

/// See `AttentionKernels::mix`.
///
/// # Safety
/// The strip's heads [`fit`]; what the queries see is in it, their weights and sums are there, at most
/// sixteen.
pub(super) unsafe fn mix(
    amx: Amx,
    strip: &Strip<'_>,
    seen: &[Range<usize>],
    (weights, stride): (&[f32], usize),
    sums: &mut Rectangle<'_>,
) {
    let at_once = groups(seen)
        .all(|group| all_see(seen, group) || are_finite(amx, strip.groups[group].values));
    // SAFETY: the caller's promises.
    unsafe {
        if at_once {
            return mix_at_once(amx, strip, seen, (weights, stride), sums);
        }
        for (queries, _) in rows(seen) {
            let weights = (&weights[queries.start * stride..], stride);
            let mut sums = sums.part(queries.clone(), 0..strip.dim());
            mix_at_once(amx, strip, &seen[queries], weights, &mut sums);
        }
    }
}

/// Groups that some query sees.
fn groups(seen: &[Range<usize>]) -> Range<usize> {
    seen[0].start / GROUP..seen[seen.len() - 1].end.div_ceil(GROUP)
}

/// Whether all queries see all tokens of a group.
fn all_see(seen: &[Range<usize>], group: usize) -> bool {
    seen[seen.len() - 1].start <= group * GROUP && (group + 1) * GROUP <= seen[0].end
}

/// Whether no bfloat16 is an infinity or not a number.
fn are_finite(_: Amx, values: &[u8]) -> bool {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn run(values: &[u16]) -> bool {
        /// The bits of the exponent.
        const EXPONENT: u16 = 0x7f80;
        !values.iter().fold(false, |some, value| some | (value & EXPONENT == EXPONENT))
    }
    // SAFETY: the kernels exist, so the CPU has the features.
    unsafe { run(bytemuck::cast_slice(values)) }
}

/// The same if all queries see the same tokens, or all values of groups that some see a part of are
/// finite: zero times those is zero.
///
/// # Safety
/// As [`mix`].
unsafe fn mix_at_once(
    amx: Amx,
    strip: &Strip<'_>,
    seen: &[Range<usize>],
    weights: (&[f32], usize),
    sums: &mut Rectangle<'_>,
) {
    let tiles = Tiles::new(amx, &SHAPES[seen.len() - 1]);
    let (place, stride) = sums.raw();
    let mut first = 0;
    while first < strip.dim() {
        let place = (place.wrapping_add(first), stride);
        // SAFETY: the caller's promises; a head is an even number of tiles wide.
        unsafe {
            if strip.dim() - first >= SUMS * GROUP {
                mix_dimensions::<SUMS>((amx, &tiles), strip, seen, weights, place, first);
                first += SUMS * GROUP;
            } else {
                mix_dimensions::<2>((amx, &tiles), strip, seen, weights, place, first);
                first += 2 * GROUP;
            }
        }
    }
}

/// The same for sixteen times `T` dimensions, from number `first` on.
///
/// # Safety
/// As [`mix_at_once`]; there are so many dimensions.
unsafe fn mix_dimensions<const T: usize>(
    (amx, tiles): (Amx, &Tiles),
    strip: &Strip<'_>,
    seen: &[Range<usize>],
    (weights, weights_stride): (&[f32], usize),
    (place, stride): (*mut f32, usize),
    first: usize,
) {
    let row_bytes = strip.dim() * PAIR_BYTES;
    let mut copy = Copied([[0; SUMS * GROUP]; PAIRS]);
    tiles.zero::<0>();
    tiles.zero::<1>();
    tiles.zero::<2>();
    tiles.zero::<3>();
    for group in groups(seen) {
        let weights = weights[group * GROUP / 2..].as_ptr().cast();
        let values = strip.groups[group].values;
        let mut from = (values[first * PAIR_BYTES..].as_ptr(), row_bytes);
        if !all_see(seen, group) && !are_finite(amx, values) {
            copy.take::<T>(&seen[0], group, (&values[first * PAIR_BYTES..], row_bytes));
            from = (copy.0.as_ptr().cast(), SUMS * LINE);
        }
        let ahead = strip.ahead.get(group).map_or(&[][..], |ahead| {
            &ahead.values[first * PAIRS * PAIR_BYTES..][..T * PAIRS * LINE]
        });
        let ask = |tile: usize| {
            let part = ahead.get(tile * PAIRS * LINE..(tile + 1) * PAIRS * LINE);
            amx.without_amx().prefetch(part.unwrap_or_default());
        };
        // SAFETY: queries have weights of all groups, a group values of all dimensions.
        unsafe {
            tiles.load::<5>(weights, 4 * weights_stride);
            tiles.load::<7>(from.0, from.1);
            tiles.multiply_pairs::<0, 5, 7>();
            ask(0);
            tiles.load::<7>(from.0.add(LINE), from.1);
            tiles.multiply_pairs::<1, 5, 7>();
            ask(1);
            if T == SUMS {
                tiles.load::<7>(from.0.add(2 * LINE), from.1);
                tiles.multiply_pairs::<2, 5, 7>();
                ask(2);
                tiles.load::<7>(from.0.add(3 * LINE), from.1);
                tiles.multiply_pairs::<3, 5, 7>();
                ask(3);
            }
        }
    }
    // SAFETY: there is room for all queries' sums of these dimensions.
    unsafe {
        tiles.store::<0>(place.cast(), 4 * stride);
        tiles.store::<1>(place.add(GROUP).cast(), 4 * stride);
        if T == SUMS {
            tiles.store::<2>(place.add(2 * GROUP).cast(), 4 * stride);
            tiles.store::<3>(place.add(3 * GROUP).cast(), 4 * stride);
        }
    }
}

/// Values of a group, `[pairs of tokens][dimensions]`.
#[repr(C, align(64))]
struct Copied([[u32; SUMS * GROUP]; PAIRS]);

impl Copied {
    /// Takes the first sixteen times `T` dimensions of a group, with zeros for tokens that aren't `seen`.
    fn take<const T: usize>(
        &mut self,
        seen: &Range<usize>,
        group: usize,
        (values, row_bytes): (&[u8], usize),
    ) {
        for (pair, place) in self.0.iter_mut().enumerate() {
            let kept = |token: usize| {
                if seen.contains(&(group * GROUP + token)) { 0xffff } else { 0 }
            };
            let kept = kept(2 * pair) | kept(2 * pair + 1) << 16;
            let values: &[u32] = bytemuck::cast_slice(&values[pair * row_bytes..][..T * LINE]);
            for (place, word) in place.iter_mut().zip(values) {
                *place = word & kept;
            }
        }
    }
}
