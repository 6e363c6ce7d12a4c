//! Every variant against the scalar one, and that bits depend on nothing that they shouldn't.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::{memory::Memory, testing::Random};

/// How far a sum may be from another one of the same products, relative to the sum of their
/// magnitudes: the chains are at most some hundreds of additions long, each of which is off by 6e-8
/// at most.
const SUM_TOLERANCE: f32 = 2e-6;

/// How far a weight may be off, relative to itself: that of the power of two, and of the difference
/// of scores up to 40, which is rounded to 2e-6 at most.
const WEIGHT_TOLERANCE: f32 = 3e-6;

/// The same where weights are rounded to bfloat16: half of its last place, and the shorter series.
const ROUNDED_TOLERANCE: f32 = 1.0 / 256.0 + 1.2e-4;

fn scalar() -> AttentionKernels {
    AttentionKernels(Variant::Scalar(scalar::Scalar))
}

/// Made-up keys and values.
struct Stored {
    heads: StripHeads,
    /// Keys, values, scales of either, of each group.
    groups: Vec<[Memory; 4]>,
}

impl Stored {
    fn new(heads: StripHeads, groups: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let StripHeads { dtype, dim, group_tokens } = heads;
        let pairs = step(dtype);
        let keys = dim.div_ceil(pairs) * pairs * GROUP;
        let values = group_tokens.div_ceil(pairs) * pairs * width(dim);
        let group = |_| {
            let [keys, values] = [keys, values].map(|len| Self::numbers(dtype, len, &mut random));
            let scales = [(); 2].map(|()| Self::numbers(CacheType::F32, GROUP, &mut random));
            let [key_scales, value_scales] = scales;
            [keys, values, key_scales, value_scales]
        };
        let mut stored = Self { heads, groups: (0..groups).map(group).collect() };
        // What fills an odd dimension up is 0 in the cache.
        for group in &mut stored.groups {
            let bytes: &mut [u8] = group[0].as_mut_slice();
            if dim % pairs != 0 {
                let lanes = dim / pairs * GROUP;
                (lanes..lanes + GROUP).for_each(|lane| bytes[lane * 4 + 2..lane * 4 + 4].fill(0));
            }
        }
        stored
    }

    fn numbers(dtype: CacheType, len: usize, random: &mut Random) -> Memory {
        let mut lines = Memory::zeroed("a test", len * dtype.element_bytes()).unwrap();
        let bytes: &mut [u8] = lines.as_mut_slice();
        for place in bytes.chunks_exact_mut(dtype.element_bytes()).take(len) {
            let value = random.value();
            match dtype {
                CacheType::F32 => place.copy_from_slice(&value.to_ne_bytes()),
                CacheType::Bf16 => place.copy_from_slice(&bf16::from_f32(value).to_ne_bytes()),
                CacheType::F16 => place.copy_from_slice(&f16::from_f32(value).to_ne_bytes()),
                CacheType::Int8 => place[0] = random.bits() as u8,
            }
        }
        lines
    }

    fn groups<'a>(&'a self) -> Vec<TokenGroup<'a>> {
        let scaled = self.heads.dtype.scale_bytes() > 0;
        let scales = |lines: &'a Memory| -> &'a [f32] {
            if scaled { bytemuck::cast_slice(lines.as_slice()) } else { &[] }
        };
        let mut groups = Vec::new();
        for [keys, values, key_scales, value_scales] in &self.groups {
            groups.push(TokenGroup {
                keys: keys.as_slice(),
                values: values.as_slice(),
                key_scales: scales(key_scales),
                value_scales: scales(value_scales),
            });
        }
        groups
    }

    /// The greatest magnitude of a product's stored factor.
    fn greatest(&self) -> f32 {
        if self.heads.dtype == CacheType::Int8 { 128.0 } else { 1.0 }
    }
}

fn strips() -> impl Strategy<Value = (StripHeads, usize, u64)> {
    let dtypes = prop::sample::select(&CacheType::ALL[..]);
    let tokens = prop::sample::select(&[4usize, 8, 16][..]);
    let dims = prop_oneof![1..140usize, Just(64), Just(80), Just(96), Just(128)];
    let heads = (dtypes, dims, tokens).prop_map(|(dtype, dim, group_tokens)| StripHeads {
        dtype,
        dim,
        group_tokens,
    });
    (heads, 1..=8usize, any::<u64>())
}

/// Numbers that bfloat16 has.
fn factors(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| bf16::from_f32(random.value()).to_f32()).collect()
}

/// As these kernels read them; whole groups.
fn packed(kernels: AttentionKernels, dtype: CacheType, factors: &[f32]) -> Vec<f32> {
    let mut place = vec![f32::NAN; factors.len()];
    kernels.pack(dtype, factors, 1.0, &mut place);
    place
}

/// Packed factors back again.
fn unpacked(kernels: AttentionKernels, dtype: CacheType, place: &[f32]) -> Vec<f32> {
    if !kernels.rounds(dtype) {
        return place.to_vec();
    }
    let halves: &[u16] = bytemuck::cast_slice(&place[..place.len() / 2]);
    halves.iter().map(|&half| bf16::from_bits(half).to_f32()).collect()
}

fn assert_near(got: f32, want: f32, magnitude: f32, tolerance: f32) {
    assert!((got - want).abs() <= tolerance * magnitude, "{got} is not {want} within {tolerance}");
}

/// Scores of each query, computed `at_once`.
fn scores(
    kernels: AttentionKernels,
    strip: &Strip<'_>,
    queries: &[Vec<f32>],
    at_once: usize,
) -> Vec<f32> {
    let mut all = Vec::new();
    for queries in queries.chunks(at_once) {
        let queries: Vec<f32> =
            queries.iter().flat_map(|query| packed(kernels, strip.dtype(), query)).collect();
        let rows = queries.len() / width(strip.dim());
        let mut scores = vec![f32::NAN; rows * strip.lanes()];
        let mut rectangle = Rectangle::new(&mut scores, rows, strip.lanes(), strip.lanes());
        kernels.score(strip, &queries, &mut rectangle);
        all.extend(scores);
    }
    all
}

/// Sums of the values that each query sees, computed `at_once`.
fn sums(
    kernels: AttentionKernels,
    strip: &Strip<'_>,
    seen: &[Range<usize>],
    weights: &[Vec<f32>],
    at_once: usize,
) -> Vec<f32> {
    let mut all = Vec::new();
    for (seen, weights) in seen.chunks(at_once).zip(weights.chunks(at_once)) {
        let weights: Vec<f32> =
            weights.iter().flat_map(|weights| packed(kernels, strip.dtype(), weights)).collect();
        let width = width(strip.dim());
        let mut sums = vec![f32::NAN; seen.len() * width];
        let mut rectangle = Rectangle::new(&mut sums, seen.len(), width, width);
        kernels.mix(strip, seen, (&weights, strip.lanes()), &mut rectangle);
        all.extend(sums);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn scores_are_those_of_the_definition((heads, groups, seed) in strips(), rows in 1..18usize) {
        let stored = Stored::new(heads, groups, seed);
        let groups = stored.groups();
        let strip = Strip::new(heads, &groups);
        let mut random = Random(seed);
        let query = |_| {
            let mut query = factors(&mut random, heads.dim);
            query.resize(width(heads.dim), 0.0);
            query
        };
        let queries: Vec<Vec<f32>> = (0..rows).map(query).collect();
        let reference = scores(scalar(), &strip, &queries, 4);
        for kernels in AttentionKernels::that_run() {
            let alone = scores(kernels, &strip, &queries, 1);
            for (score, reference) in alone.iter().zip(&reference) {
                let magnitude = heads.dim as f32 * stored.greatest();
                assert_near(*score, *reference, magnitude, SUM_TOLERANCE);
            }
            for at_once in 2..=kernels.most_queries(heads) {
                prop_assert!(scores(kernels, &strip, &queries, at_once) == alone, "{:?}", kernels);
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_definition(
        (heads, groups, seed) in strips(),
        mut starts in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        mut ends in prop::collection::vec(any::<prop::sample::Index>(), 8),
        queries_of_a_row in 1..4usize,
    ) {
        let mut stored = Stored::new(heads, groups, seed);
        let count = groups * heads.group_tokens;
        starts.sort_by_key(|start| start.index(count));
        ends.sort_by_key(|end| end.index(count));
        let row = |(start, end): (&prop::sample::Index, &prop::sample::Index)| {
            let start = start.index(count);
            let seen = start..(end.index(count) + 1).max(start + 1);
            std::iter::repeat_n(seen, queries_of_a_row)
        };
        let seen: Vec<Range<usize>> = starts.iter().zip(&ends).flat_map(row).collect();
        // What tokens have that nobody sees isn't looked at.
        let nan = [0xffu8; 4];
        if heads.dtype != CacheType::Int8 {
            let unseen = |token: &usize| !seen.iter().any(|seen| seen.contains(token));
            for token in (0..count).filter(unseen) {
                let (group, slot) = (token / heads.group_tokens, token % heads.group_tokens);
                let bytes = stored.groups[group][1].as_mut_slice();
                let (pairs, width) = (step(heads.dtype), width(heads.dim));
                for at in 0..width {
                    let at = (slot / pairs * width + at) * pairs + slot % pairs;
                    let size = heads.dtype.element_bytes();
                    bytes[at * size..(at + 1) * size].copy_from_slice(&nan[..size]);
                }
            }
        }
        let groups = stored.groups();
        let strip = Strip::new(heads, &groups);
        let mut random = Random(seed);
        let query = |seen: &Range<usize>| {
            let mut weights = factors(&mut random, strip.lanes());
            for (lane, weight) in weights.iter_mut().enumerate() {
                let (group, slot) = (lane / GROUP, lane % GROUP);
                if slot >= heads.group_tokens
                    || !seen.contains(&(group * heads.group_tokens + slot))
                {
                    *weight = 0.0;
                }
            }
            weights
        };
        let weights: Vec<Vec<f32>> = seen.iter().map(query).collect();
        let reference = sums(scalar(), &strip, &seen, &weights, 1);
        for kernels in AttentionKernels::that_run() {
            let alone = sums(kernels, &strip, &seen, &weights, 1);
            for (sum, reference) in alone.iter().zip(&reference) {
                let magnitude = count as f32 * stored.greatest();
                assert_near(*sum, *reference, magnitude, SUM_TOLERANCE);
            }
            for at_once in 2..=kernels.most_queries(heads) {
                prop_assert!(
                    sums(kernels, &strip, &seen, &weights, at_once) == alone,
                    "{:?}, {} at once", kernels, at_once
                );
            }
        }
    }

    #[test]
    fn weights_are_those_of_the_definition((heads, groups, seed) in strips(), rows in 1..5usize) {
        let stored = Stored::new(heads, groups, seed);
        let groups = stored.groups();
        let strip = Strip::new(heads, &groups);
        let lanes = strip.lanes();
        let mut random = Random(seed);
        let mut start: Vec<f32> = (0..rows * lanes).map(|_| random.value() * 20.0).collect();
        for score in start.iter_mut().filter(|score| **score > 15.0) {
            *score = f32::NEG_INFINITY;
        }
        start.iter_mut().step_by(lanes).for_each(|score| *score = 3.0);
        let weigh = |kernels: AttentionKernels| {
            let mut memory = vec![f32::NAN; Mixed::floats(0, 1)];
            let mut mixed = Mixed::new(&mut memory);
            let mut scores = start.clone();
            let mut rectangle = Rectangle::new(&mut scores, rows, lanes, lanes);
            kernels.weigh(&strip, &mut rectangle, 2, &mut mixed);
            let weights: Vec<f32> = scores
                .chunks(lanes)
                .flat_map(|row| unpacked(kernels, heads.dtype, row))
                .collect();
            assert!(mixed.greatest[1].is_nan() && mixed.totals[2 + rows].is_nan(), "of others");
            (weights, mixed.greatest[2..2 + rows].to_vec(), mixed.totals[2..2 + rows].to_vec())
        };
        let reference = weigh(scalar());
        for kernels in AttentionKernels::that_run() {
            let (weights, greatest, totals) = weigh(kernels);
            prop_assert_eq!(&greatest, &reference.1);
            let rounds = kernels.rounds(heads.dtype);
            let tolerance = if rounds { ROUNDED_TOLERANCE } else { WEIGHT_TOLERANCE };
            for ((weight, reference), score) in weights.iter().zip(&reference.0).zip(&start) {
                assert_near(*weight, *reference, reference.abs(), tolerance);
                prop_assert!(*score != f32::NEG_INFINITY || *weight == 0.0);
            }
            for row in 0..rows {
                assert_near(totals[row], reference.2[row], reference.2[row], tolerance);
                if rounds {
                    // The total is that of the weights as they are multiplied.
                    let sum = weights[row * lanes..(row + 1) * lanes].iter().sum::<f32>();
                    assert_near(totals[row], sum, sum, SUM_TOLERANCE);
                }
            }
        }
    }

    #[test]
    fn parts_are_put_together_as_defined(dim in 1..140usize, queries in 1..7usize, seed: u64) {
        let mut random = Random(seed);
        let len = Mixed::floats(queries, dim);
        let mut mixed = || -> Vec<f32> { random.values(len).iter().map(|x| x * 9.0).collect() };
        let (start, part) = (mixed(), mixed());
        let fold = |kernels: AttentionKernels, whole: &[f32], queries: Range<usize>| {
            let (mut whole, mut part) = (whole.to_vec(), part.clone());
            kernels.fold(&mut Mixed::new(&mut whole), &Mixed::new(&mut part), queries, dim);
            whole
        };
        let reference = fold(scalar(), &start, 0..queries);
        let mut nothing = start.clone();
        Mixed::new(&mut nothing).clear();
        for kernels in AttentionKernels::that_run() {
            let whole = fold(kernels, &start, 0..queries);
            let same = |queries: usize| (0..2 * GROUP).filter(move |at| at % GROUP < queries);
            for at in same(queries).chain(2 * GROUP..len) {
                assert_near(whole[at], reference[at], 20.0, WEIGHT_TOLERANCE);
            }
            // What is added to nothing stays as it is.
            let first = fold(kernels, &nothing, 0..queries);
            for at in same(queries).chain(2 * GROUP..len) {
                prop_assert_eq!(first[at], part[at]);
            }
        }
    }

    #[test]
    fn heads_are_turned_to_the_bit(
        dims in (0..70usize).prop_map(|pairs| 2 * pairs),
        rest in 0..20usize,
        halves: bool,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let [cosines, sines] = [(); 2].map(|()| random.values(dims));
        let pairs = if halves { RopePairs::Halves } else { RopePairs::Neighbours };
        let turns = Turns { cosines: &cosines, sines: &sines, pairs };
        let head = random.values(dims + rest);
        let rotate = |kernels: AttentionKernels| {
            let mut place = vec![f32::NAN; head.len()];
            kernels.rotate(turns, &head, &mut place);
            place
        };
        let reference = rotate(scalar());
        prop_assert_eq!(&reference[dims..], &head[dims..]);
        for kernels in AttentionKernels::that_run() {
            prop_assert_eq!(&rotate(kernels), &reference);
        }
    }
}

const ONE_GROUP: StripHeads = StripHeads { dtype: CacheType::F32, dim: 1, group_tokens: 16 };

/// Weights of sixteen scores and their total.
fn sixteen(kernels: AttentionKernels, dtype: CacheType, scores: [f32; GROUP]) -> (Vec<f32>, f32) {
    let heads = StripHeads { dtype, ..ONE_GROUP };
    let stored = Stored::new(heads, 1, 1);
    let groups = stored.groups();
    let mut memory = vec![0.0; Mixed::floats(0, 1)];
    let mut mixed = Mixed::new(&mut memory);
    let mut scores = scores.to_vec();
    let mut rectangle = Rectangle::new(&mut scores, 1, GROUP, GROUP);
    kernels.weigh(&Strip::new(heads, &groups), &mut rectangle, 0, &mut mixed);
    (unpacked(kernels, dtype, &scores), mixed.totals[0])
}

#[test]
fn powers_of_two_are_as_exact_as_they_say() {
    for kernels in AttentionKernels::that_run() {
        for dtype in [CacheType::F32, CacheType::Bf16] {
            let tolerance = if kernels.rounds(dtype) { ROUNDED_TOLERANCE } else { 2e-7 };
            for first in 0..8_000 {
                // The first is the greatest.
                let scores = std::array::from_fn(|lane| {
                    (first * 15 + lane) as f32 * -1e-3 * f32::from(lane > 0)
                });
                let (weights, _) = sixteen(kernels, dtype, scores);
                assert_eq!(weights[0], 1.0);
                for (weight, score) in weights.iter().zip(scores) {
                    let exact = f64::from(score).exp2();
                    let error = (f64::from(*weight) - exact).abs() / exact;
                    assert!(error < f64::from(tolerance), "2^{score} is {exact}, not {weight}");
                }
            }
        }
    }
}

#[test]
fn a_softmax_is_not_touched_by_what_is_far_below_and_shows_what_is_unknown() {
    for kernels in AttentionKernels::that_run() {
        for dtype in [CacheType::F32, CacheType::Bf16] {
            let mut scores = [f32::NEG_INFINITY; GROUP];
            (scores[1], scores[4], scores[5]) = (-1000.0, 3.0e38, f32::MIN);
            let (weights, total) = sixteen(kernels, dtype, scores);
            assert_eq!(total, 1.0);
            assert!(weights.iter().enumerate().all(|(at, &w)| w == f32::from(at == 4)));
            for unknown in [f32::NAN, f32::INFINITY] {
                let mut scores = [1.0; GROUP];
                scores[7] = unknown;
                assert!(sixteen(kernels, dtype, scores).1.is_nan(), "{kernels:?}: {unknown}");
            }
        }
    }
}
