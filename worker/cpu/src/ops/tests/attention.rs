//! Attention against the textbook, and that it doesn't depend on how work is cut.

use super::*;

use std::num::NonZeroUsize;

use half::{bf16, f16};

use crate::kernels::AttentionKernels;

const THETA: f32 = 1000.0;

/// A made-up sequence: its query, key and value rows, and where its tokens are in the cache.
pub(super) struct Sequence {
    qkv: Vec<Vec<f32>>,
    pub(super) blocks: Vec<u32>,
}

/// One way to share out heads, a cache for them, and what rows see.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    heads: HeadShard,
    rope: Rope,
    cache: CacheShape,
    window: Option<NonZeroUsize>,
}

const LAYER: usize = 1;

impl Setting {
    pub(super) fn new(
        queries_per_kv: usize,
        query_heads: Range<usize>,
        dim: usize,
        tokens: usize,
    ) -> Self {
        let first = query_heads.start / queries_per_kv;
        let kv_heads = first..query_heads.end.div_ceil(queries_per_kv);
        let cache = CacheShape {
            layers: 2,
            kv_heads: kv_heads.len(),
            head_dim: dim,
            blocks: 256 / tokens,
            tokens_per_block: tokens,
            dtype: CacheType::F32,
        };
        let heads = HeadShard { query_heads, kv_heads, queries_per_kv, head_dim: dim };
        let rope = Rope { theta: THETA, dims: dim / 4 * 2, pairs: RopePairs::Neighbours };
        Self { heads, rope, cache, window: None }
    }

    /// The same with a cache of this type.
    pub(super) fn stored_as(mut self, dtype: CacheType) -> Self {
        self.cache.dtype = dtype;
        self
    }

    /// The same with rows that see so many tokens.
    pub(super) fn seeing(mut self, window: usize) -> Self {
        self.window = NonZeroUsize::new(window);
        self
    }

    /// The same with pairs that are half of what turns apart.
    fn turning_halves(mut self) -> Self {
        self.rope.pairs = RopePairs::Halves;
        self
    }

    /// The same with so many blocks.
    fn holding(mut self, blocks: usize) -> Self {
        self.cache.blocks = blocks;
        self
    }

    fn columns(&self) -> usize {
        (self.heads.query_heads.len() + 2 * self.heads.kv_heads.len()) * self.heads.head_dim
    }

    /// A sequence of `len` tokens in blocks that are `step` apart from `first` on, last one first.
    pub(super) fn sequence(&self, len: usize, first: u32, step: u32, seed: u64) -> Sequence {
        let mut random = Random(seed);
        let row = |_| random.values(self.columns()).iter().map(|x| x * 3.0).collect();
        let count = len.div_ceil(self.cache.tokens_per_block) as u32;
        let blocks = (0..count).rev().map(|at| first + at * step).collect();
        Sequence { qkv: (0..len).map(row).collect(), blocks }
    }

    pub(super) fn backend(&self, kernels: Kernels, threads: usize) -> CpuBackend {
        let mut backend = backend(kernels, threads);
        backend.allocate_cache(self.cache).unwrap();
        backend
    }

    /// Attention of some rows of some sequences in one batch: `[rows, query heads * dim]`.
    pub(super) fn run(
        &self,
        backend: &mut CpuBackend,
        parts: &[(&Sequence, Range<usize>)],
    ) -> Vec<f32> {
        self.run_layer(LAYER, backend, parts)
    }

    pub(super) fn run_layer(
        &self,
        layer: usize,
        backend: &mut CpuBackend,
        parts: &[(&Sequence, Range<usize>)],
    ) -> Vec<f32> {
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        for (sequence, positions) in parts {
            let (row, block) = (batch.tokens.len(), batch.blocks.len());
            for position in positions.clone() {
                batch.tokens.push(batch.tokens.len() as u32);
                rows.extend_from_slice(&sequence.qkv[position]);
            }
            batch.blocks.extend_from_slice(&sequence.blocks);
            batch.spans.push(Span {
                rows: row..batch.tokens.len(),
                position: positions.start,
                blocks: block..batch.blocks.len(),
            });
        }
        let table = backend.pack(&[Stored::floats(&rows, self.columns()).view()]).unwrap();
        backend.begin(&batch).unwrap();
        let qkv = backend.embed(&table, 0).unwrap();
        let mixed = backend.attention(layer, qkv, &self.heads, &self.rope, self.window).unwrap();
        values(backend, &mixed)
    }

    /// What the textbook gives for one position of a sequence, with keys and values as they are kept,
    /// and queries as these kernels round them.
    fn expected(&self, kernels: Kernels, sequence: &Sequence, position: usize) -> Vec<f64> {
        let HeadShard { query_heads, kv_heads, head_dim, .. } = &self.heads;
        let head = |position: usize, number: usize| {
            &sequence.qkv[position][number * head_dim..(number + 1) * head_dim]
        };
        let window = self.window.map_or(usize::MAX, NonZeroUsize::get);
        let seen = (position + 1).saturating_sub(window)..position + 1;
        let mut mixed = Vec::new();
        for query in 0..query_heads.len() {
            let kv_head = (query_heads.start + query) / self.heads.queries_per_kv;
            let key = query_heads.len() + kv_head - kv_heads.start;
            let value = key + kv_heads.len();
            let q = self.rounded(kernels, &self.rotated(head(position, query), position));
            let scores = seen.clone().map(|at| {
                let k = kept(self.cache.dtype, &self.rotated(head(at, key), at));
                q.iter().zip(&k).map(|(q, k)| q * k).sum()
            });
            let scores: Vec<f64> = scores.collect();
            let greatest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp2()).collect();
            let total: f64 = weights.iter().sum();
            let mut sums = vec![0.0; *head_dim];
            for (at, weight) in seen.clone().zip(&weights) {
                for (sum, value) in sums.iter_mut().zip(kept(self.cache.dtype, head(at, value))) {
                    *sum += weight * value / total;
                }
            }
            mixed.extend(sums);
        }
        mixed
    }

    /// A query times log2(e), divided by the root of its elements' number, as it is multiplied.
    fn rounded(&self, kernels: Kernels, query: &[f32]) -> Vec<f64> {
        let root = (query.len() as f32).sqrt();
        if AttentionKernels::new(kernels).rounds(self.cache.dtype) {
            let scale = std::f32::consts::LOG2_E / root;
            return query.iter().map(|x| bf16::from_f32(x * scale).to_f64()).collect();
        }
        let scale = std::f64::consts::LOG2_E / (query.len() as f64).sqrt();
        query.iter().map(|&x| f64::from(x) * scale).collect()
    }

    /// How far a sum may be off. Values are up to 3. Where weights are bfloat16, each is off by up to
    /// 2^-8 of itself, and so is their sum; else there are only the roundings of float32.
    fn tolerance(&self, kernels: Kernels) -> f64 {
        let rounds = AttentionKernels::new(kernels).rounds(self.cache.dtype);
        if rounds { 2.0 * 3.0 / 256.0 + 1e-3 } else { 2e-5 }
    }

    /// As the backend rotates, to the bit, so that what is kept is rounded to the same side.
    fn rotated(&self, head: &[f32], position: usize) -> Vec<f32> {
        let mut turned = head.to_vec();
        let pairs = self.rope.dims / 2;
        for i in 0..pairs {
            let power = -2.0 / self.rope.dims as f64 * i as f64;
            let angle = position as f64 * f64::from(THETA).powf(power);
            let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
            let (first, second) = match self.rope.pairs {
                RopePairs::Neighbours => (2 * i, 2 * i + 1),
                RopePairs::Halves => (i, i + pairs),
            };
            let (a, b) = (head[first], head[second]);
            turned[first] = a * cos - b * sin;
            turned[second] = a * sin + b * cos;
        }
        turned
    }
}

/// What a cache of this type makes of a vector.
fn kept(dtype: CacheType, vector: &[f32]) -> Vec<f64> {
    let scale = vector.iter().fold(0f32, |greatest, x| greatest.max(x.abs())) / 127.0;
    let element = |&x: &f32| match dtype {
        CacheType::F32 => f64::from(x),
        CacheType::Bf16 => bf16::from_f32(x).to_f64(),
        CacheType::F16 => f16::from_f32(x).to_f64(),
        CacheType::Int8 if scale == 0.0 => 0.0,
        CacheType::Int8 => f64::from((x / scale).round_ties_even()) * f64::from(scale),
    };
    vector.iter().map(element).collect()
}

/// Heads of whole and of uneven shards, dimensions that fill registers and that don't, blocks of less
/// and of more than a register's tokens.
fn settings() -> [Setting; 8] {
    [
        Setting::new(2, 0..4, 80, 32).turning_halves(),
        Setting::new(7, 0..14, 21, 64).turning_halves(),
        Setting::new(3, 0..9, 64, 16),
        Setting::new(3, 3..5, 64, 32),
        Setting::new(3, 2..7, 20, 16),
        Setting::new(1, 0..2, 16, 4),
        Setting::new(4, 1..8, 36, 8),
        Setting::new(12, 3..23, 8, 64),
    ]
}

/// Each setting as it is, and with each type of cache and a window: of one token, of less and of more
/// than a block, and of more than there is.
fn variants() -> impl Iterator<Item = Setting> {
    settings().into_iter().enumerate().flat_map(|(shift, setting)| {
        let windows = [1, 5, 23, 1000].into_iter().cycle().skip(shift);
        let stored = CacheType::ALL.into_iter().zip(windows).map({
            let setting = setting.clone();
            move |(dtype, window)| setting.clone().stored_as(dtype).seeing(window)
        });
        std::iter::once(setting).chain(stored)
    })
}

#[test]
fn two_spans_get_what_the_textbook_says() {
    for setting in variants() {
        // The blocks of the two lie between each other.
        let first = setting.sequence(77, 0, 2, 1);
        let second = setting.sequence(19, 1, 2, 2);
        for kernels in kernels_that_run() {
            let mut backend = setting.backend(kernels, 2);
            setting.run(&mut backend, &[(&first, 0..50)]);
            let mixed = setting.run(&mut backend, &[(&first, 50..77), (&second, 0..19)]);
            let expected = (50..77)
                .map(|at| setting.expected(kernels, &first, at))
                .chain((0..19).map(|at| setting.expected(kernels, &second, at)));
            assert_all_near(&mixed, expected.flatten(), setting.tolerance(kernels));
        }
    }
}

#[test]
fn a_prompt_has_the_same_bits_however_it_is_cut_and_run() {
    for setting in variants() {
        let prompt = setting.sequence(61, 0, 1, 3);
        let other = setting.sequence(30, 128 / setting.cache.tokens_per_block as u32, 1, 4);
        for kernels in kernels_that_run() {
            let whole = setting.run(&mut setting.backend(kernels, 1), &[(&prompt, 0..61)]);
            for threads in [1, 2, 3] {
                let mut again = setting.backend(kernels, threads);
                assert!(setting.run(&mut again, &[(&prompt, 0..61)]) == whole);
                for cuts in [&[0, 7, 27, 28, 61][..], &[0, 16, 32, 48, 61], &[0, 1, 2, 3, 60, 61]] {
                    let mut backend = setting.backend(kernels, threads);
                    let mut mixed = Vec::new();
                    for (at, cut) in cuts.windows(2).enumerate() {
                        // Rows of another sequence before and in between.
                        let neighbour = (&other, at * 5..at * 5 + 5);
                        let both = [neighbour, (&prompt, cut[0]..cut[1])];
                        let rows = setting.run(&mut backend, &both);
                        let columns = rows.len() / (5 + cut[1] - cut[0]);
                        mixed.extend_from_slice(&rows[5 * columns..]);
                    }
                    assert!(
                        mixed == whole,
                        "{kernels:?}, {threads} threads, cut at {cuts:?}: {setting:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_token_at_a_time_has_the_bits_of_a_whole_prompt() {
    for setting in variants() {
        let prompt = setting.sequence(40, 0, 1, 5);
        for kernels in kernels_that_run() {
            let whole = setting.run(&mut setting.backend(kernels, 2), &[(&prompt, 0..40)]);
            let mut backend = setting.backend(kernels, 2);
            let each: Vec<f32> = (0..40)
                .flat_map(|at| setting.run(&mut backend, &[(&prompt, at..at + 1)]))
                .collect();
            assert!(each == whole, "{kernels:?}: {setting:?}");
        }
    }
}

#[test]
fn a_long_prompt_has_the_same_bits_on_three_threads() {
    // Enough for three threads to store keys and values.
    let setting = Setting::new(3, 0..9, 64, 16);
    let prompt = setting.sequence(200, 0, 1, 9);
    for kernels in kernels_that_run() {
        let run =
            |threads| setting.run(&mut setting.backend(kernels, threads), &[(&prompt, 0..200)]);
        assert!(run(3) == run(1), "{kernels:?}");
    }
}

#[test]
fn a_long_sequence_has_the_same_bits_however_many_threads_share_it() {
    // Blocks of less and of more than a strip.
    let caches = [
        (CacheType::F32, 8),
        (CacheType::F16, 256),
        (CacheType::Bf16, 8),
        (CacheType::Bf16, 32),
        (CacheType::Bf16, 256),
        (CacheType::Int8, 64),
    ];
    for (dtype, tokens) in caches {
        // Seven threads have a share each, or two.
        for window in [usize::MAX, 333] {
            let setting = Setting::new(3, 0..9, 32, tokens).stored_as(dtype).seeing(window);
            let first = 700usize.div_ceil(tokens);
            let setting = setting.holding(first + 140usize.div_ceil(tokens));
            let long = setting.sequence(700, 0, 1, 13);
            let short = setting.sequence(140, first as u32, 1, 14);
            for kernels in kernels_that_run() {
                let run = |threads| {
                    let mut backend = setting.backend(kernels, threads);
                    setting.run(&mut backend, &[(&long, 0..697), (&short, 0..139)]);
                    let mut rows = setting.run(&mut backend, &[(&long, 697..698)]);
                    let both = [(&long, 698..700), (&short, 139..140)];
                    rows.extend(setting.run(&mut backend, &both));
                    rows
                };
                let alone = run(1);
                for threads in [2, 5] {
                    assert!(run(threads) == alone, "{kernels:?}, {threads} threads: {setting:?}");
                }
                let whole = setting.run(&mut setting.backend(kernels, 2), &[(&long, 0..700)]);
                let columns = whole.len() / 700;
                assert!(whole[697 * columns..] == alone[..3 * columns], "{kernels:?}: {setting:?}");
            }
        }
    }
}

#[test]
fn a_row_is_not_touched_by_those_after_it() {
    for setting in variants() {
        let clean = setting.sequence(61, 0, 1, 15);
        for spoilt_from in [30, 37] {
            let mut spoilt = setting.sequence(61, 0, 1, 15);
            spoilt.qkv[spoilt_from..].iter_mut().flatten().for_each(|x| *x = f32::NAN);
            for kernels in kernels_that_run() {
                let run = |sequence: &Sequence| {
                    setting.run(&mut setting.backend(kernels, 2), &[(sequence, 0..61)])
                };
                let (clean, spoilt) = (run(&clean), run(&spoilt));
                let before = spoilt_from * clean.len() / 61;
                assert!(clean[..before] == spoilt[..before], "{kernels:?}: {setting:?}");
                assert!(spoilt[before..].iter().all(|x| x.is_nan()), "{kernels:?}: {setting:?}");
            }
        }
    }
}

#[test]
fn what_a_block_held_before_is_not_seen() {
    for setting in variants() {
        let mut spoilt = setting.sequence(61, 0, 1, 6);
        spoilt.qkv.iter_mut().flatten().for_each(|x| *x = f32::NAN);
        let prompt = setting.sequence(61, 0, 1, 7);
        for kernels in kernels_that_run() {
            let clean = setting.run(&mut setting.backend(kernels, 1), &[(&prompt, 0..61)]);
            let mut backend = setting.backend(kernels, 1);
            setting.run(&mut backend, &[(&spoilt, 0..61)]);
            let mut reused = setting.run(&mut backend, &[(&prompt, 0..23)]);
            reused.extend(setting.run(&mut backend, &[(&prompt, 23..61)]));
            assert!(reused == clean, "{kernels:?}: {setting:?}");
        }
    }
}

#[test]
fn a_window_of_all_positions_has_the_bits_of_none() {
    for setting in settings() {
        let prompt = setting.sequence(61, 0, 1, 10);
        for kernels in kernels_that_run() {
            let run = |setting: &Setting| {
                setting.run(&mut setting.backend(kernels, 2), &[(&prompt, 0..61)])
            };
            let all = run(&setting);
            for window in [61, 62, usize::MAX] {
                assert!(run(&setting.clone().seeing(window)) == all, "{kernels:?} {window}");
            }
            assert!(run(&setting.clone().seeing(60)) != all, "{kernels:?}");
        }
    }
}

#[test]
fn blocks_outside_the_window_may_be_others_by_now() {
    for setting in variants() {
        let tokens = setting.cache.tokens_per_block;
        let mut others = setting.sequence(61, 128 / tokens as u32, 1, 11);
        others.qkv.iter_mut().flatten().for_each(|x| *x = f32::NAN);
        let mut prompt = setting.sequence(61, 0, 1, 12);
        for kernels in kernels_that_run() {
            let mut backend = setting.backend(kernels, 2);
            setting.run(&mut backend, &[(&others, 0..61)]);
            let whole = setting.run(&mut backend, &[(&prompt, 0..61)]);
            let own = prompt.blocks.clone();
            for start in [30usize, 44, 57, 60] {
                // Positions from here on are seen by the row at `start`.
                let seen =
                    setting.window.map_or(0, |window| (start + 1).saturating_sub(window.get()));
                let outside = seen / tokens;
                prompt.blocks[..outside].copy_from_slice(&others.blocks[..outside]);
                let rest = setting.run(&mut backend, &[(&prompt, start..61)]);
                prompt.blocks.clone_from(&own);
                assert!(whole.ends_with(&rest), "{kernels:?}, from {start} on: {setting:?}");
            }
        }
    }
}

#[test]
fn layers_have_caches_of_their_own() {
    let setting = Setting::new(1, 0..1, 8, 16);
    let prompt = setting.sequence(20, 0, 1, 8);
    let mut backend = setting.backend(Kernels::detect(), 1);
    setting.run(&mut backend, &[(&prompt, 0..19)]);
    // Layer 0 gets one row at position 19 and has seen nothing before it.
    let mixed = setting.run_layer(0, &mut backend, &[(&prompt, 19..20)]);
    // Nineteen keys of zeros score 0 and weigh in with values of zeros.
    let empty = Sequence {
        qkv: (0..20)
            .map(|at| if at == 19 { prompt.qkv[19].clone() } else { vec![0.0; 24] })
            .collect(),
        blocks: vec![],
    };
    assert_all_near(&mixed, setting.expected(Kernels::detect(), &empty, 19), 1e-5);
}
