//! The computation of units: strip by strip, a bundle of queries at a time.

use std::ops::Range;

use crate::{
    cache::{CacheLayout, TokenGroup},
    disjoint::Disjoint,
    kernels::{AttentionKernels, Mixed, Strip, StripHeads, width},
    memory::fetch,
};

use super::{
    AttentionInput, MOST_GROUPS, blocks_of,
    bundle::Bundle,
    scratch::{Scratch, Sizes},
    work::{Portion, Unit},
};

/// What all units of one layer have in common.
pub(super) struct Attention<'a> {
    pub(super) kernels: AttentionKernels,
    pub(super) layout: CacheLayout,
    pub(super) heads: StripHeads,
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) sizes: Sizes,
}

/// Where threads put what they have computed.
pub(super) struct Places<'a> {
    /// `[rows, query heads * head_dim]`
    pub(super) mixed: Disjoint<'a, f32>,
    /// What the strips of units that are cut give, one by one; see [`Sizes::partials_of`].
    pub(super) partials: Disjoint<'a, f32>,
}

/// The keys and values of one strip, as far as a unit sees them.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    /// Positions of the strip that some row of the unit sees.
    pub(super) positions: Range<usize>,
    /// The position of the first token of the first group.
    pub(super) first: usize,
    groups: [TokenGroup<'a>; MOST_GROUPS],
    count: usize,
}

impl<'a> Gathered<'a> {
    /// The groups that hold the positions.
    pub(super) fn groups(&self) -> &[TokenGroup<'a>] {
        &self.groups[..self.count]
    }
}

impl Attention<'_> {
    /// Computes `portions` with the keys and values in `cache`.
    pub(super) fn run<'p>(
        &self,
        cache: &[u8],
        portions: impl Iterator<Item = Portion<'p>>,
        scratch: &mut Scratch<'_>,
        places: &Places<'_>,
    ) {
        // While a strip is computed, the next one comes nearer.
        let (mut now, mut ahead) = (&mut Gathered::default(), &mut Gathered::default());
        let mut portions = portions.peekable();
        if let Some(Portion { unit, strips, .. }) = portions.peek() {
            self.gather(cache, unit, strips.start, ahead);
        }
        while let Some(Portion { unit, strips, cut }) = portions.next() {
            self.rotate(&unit, scratch);
            self.clear(&unit, scratch);
            for strip in strips.clone() {
                std::mem::swap(&mut now, &mut ahead);
                match portions.peek() {
                    _ if strip + 1 < strips.end => self.gather(cache, &unit, strip + 1, ahead),
                    Some(next) => self.gather(cache, &next.unit, next.strips.start, ahead),
                    None => ahead.count = 0,
                }
                let partials = cut.map(|cut| {
                    let place = self.sizes.partials_of(cut, strip - unit.strips().start);
                    // SAFETY: a strip of a unit is one thread's.
                    unsafe { places.partials.part(place) }
                });
                self.strip(&unit, (now, ahead), scratch, partials);
            }
            if cut.is_none() {
                self.finish(&unit, scratch, places);
            }
        }
    }

    /// Computes one strip and adds it to what the unit has got, or puts it into `partials` if there
    /// is such a place.
    fn strip(
        &self,
        unit: &Unit<'_>,
        (now, ahead): (&Gathered<'_>, &Gathered<'_>),
        scratch: &mut Scratch<'_>,
        mut partials: Option<&mut [f32]>,
    ) {
        let dim = self.input.heads.head_dim;
        let strip = Strip::new(self.heads, now.groups());
        for (at, queries) in self.sizes.bundles(unit.queries()).enumerate() {
            let ahead = if at == 0 { ahead.groups() } else { &[] };
            let bundle = Bundle { unit, queries, strip, now, ahead };
            let place = self.sizes.mixed_of(at);
            if let Some(partials) = &mut partials {
                let mut part = Mixed::new(&mut partials[place]);
                bundle.attend(self.kernels, scratch.queries, scratch.scores, &mut part);
                continue;
            }
            let mut part = Mixed::new(scratch.part);
            let seeing = bundle.attend(self.kernels, scratch.queries, scratch.scores, &mut part);
            let mut whole = Mixed::new(&mut scratch.wholes[place]);
            self.kernels.fold(&mut whole, &part, seeing, dim);
        }
    }

    /// Puts the strips of a unit together that several threads have computed.
    pub(super) fn join(
        &self,
        portion: &Portion<'_>,
        scratch: &mut Scratch<'_>,
        places: &Places<'_>,
    ) {
        let unit = &portion.unit;
        let cut = portion.cut.expect("a unit that is cut");
        self.clear(unit, scratch);
        for strip in 0..portion.strips.len() {
            // SAFETY: no other thread runs any more.
            let partials = unsafe { places.partials.part(self.sizes.partials_of(cut, strip)) };
            for (at, queries) in self.sizes.bundles(unit.queries()).enumerate() {
                let place = self.sizes.mixed_of(at);
                let part = Mixed::new(&mut partials[place.clone()]);
                let mut whole = Mixed::new(&mut scratch.wholes[place]);
                self.kernels.fold(&mut whole, &part, 0..queries.len(), self.input.heads.head_dim);
            }
        }
        self.finish(unit, scratch, places);
    }

    /// Turns and packs the queries of a unit.
    fn rotate(&self, unit: &Unit<'_>, scratch: &mut Scratch<'_>) {
        let AttentionInput { qkv, rope, heads, .. } = *self.input;
        let dim = heads.head_dim;
        // Scores are to the base of two.
        let scale = std::f32::consts::LOG2_E / (dim as f32).sqrt();
        scratch.rotated.fill(0.0);
        let mut places = scratch.queries.chunks_exact_mut(width(dim));
        for row in unit.rows.clone() {
            // The next unit is of the rows that follow, which another CPU may have computed.
            if row + unit.rows.len() < qkv.rows() {
                let soon = &qkv.row(row + unit.rows.len())[unit.heads.start * dim..];
                fetch(bytemuck::cast_slice(&soon[..unit.heads.len() * dim]));
            }
            for head in unit.heads.clone() {
                let place = places.next().expect("room for all queries of a unit");
                let query = &qkv.row(row)[head * dim..][..dim];
                self.kernels.rotate(rope.turns(row), query, &mut scratch.rotated[..dim]);
                self.kernels.pack(self.layout.shape.dtype, scratch.rotated, scale, place);
            }
        }
    }

    fn clear(&self, unit: &Unit<'_>, scratch: &mut Scratch<'_>) {
        for (at, _) in self.sizes.bundles(unit.queries()).enumerate() {
            Mixed::new(&mut scratch.wholes[self.sizes.mixed_of(at)]).clear();
        }
    }

    /// Finds the keys and values of a unit's strip `strip`.
    fn gather<'b>(
        &self,
        cache: &'b [u8],
        unit: &Unit<'_>,
        strip: usize,
        gathered: &mut Gathered<'b>,
    ) {
        let positions = unit.positions_of(strip);
        let tokens = self.layout.group_tokens();
        let of_block = self.layout.shape.tokens_per_block / tokens;
        let blocks = blocks_of(self.input.batch, unit.span);
        let first = positions.start / tokens;
        let (mut block, mut group) = (first / of_block, first % of_block);
        gathered.count = positions.end.div_ceil(tokens) - first;
        for place in &mut gathered.groups[..gathered.count] {
            *place =
                self.layout.group(cache, (self.input.layer, unit.kv_head), blocks[block], group);
            group += 1;
            if group == of_block {
                (block, group) = (block + 1, 0);
            }
        }
        (gathered.first, gathered.positions) = (first * tokens, positions);
    }

    /// Divides what a unit's queries have got by the sums of weights.
    fn finish(&self, unit: &Unit<'_>, scratch: &mut Scratch<'_>, places: &Places<'_>) {
        let heads = self.input.heads;
        let dim = heads.head_dim;
        for (at, queries) in self.sizes.bundles(unit.queries()).enumerate() {
            let whole = Mixed::new(&mut scratch.wholes[self.sizes.mixed_of(at)]);
            for (at, query) in queries.enumerate() {
                let row = unit.rows.start + query / unit.heads.len();
                let head = unit.heads.start + query % unit.heads.len();
                let first = (row * heads.query_heads.len() + head) * dim;
                // SAFETY: a row and query head are in one unit, which one thread finishes.
                let mixed = unsafe { places.mixed.part(first..first + dim) };
                let share = 1.0 / whole.totals[at];
                for (mixed, sum) in mixed.iter_mut().zip(&whole.sums[at * width(dim)..]) {
                    *mixed = sum * share;
                }
            }
        }
    }
}
