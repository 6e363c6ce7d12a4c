//! Where the generic kernels become code for one instruction set.

/// Gives an instruction set's type its kernels: functions that are compiled with `$features`, into
/// which everything below them inlines. `$bf16` multiplies bfloat16; for each number of queries,
/// `registers` says how many registers to have sums of at a time.
macro_rules! attention_kernels {
    (
        $simd:ty, $features:literal,
        bf16: $bf16:ty,
        most_queries: $most_queries:literal,
        registers: { $($queries:literal => $registers:literal),* }
    ) => {
        const _: () = {
            use std::ops::Range;

            use shardrun_model::CacheType;

            use crate::{
                disjoint::Rectangle,
                kernels::attention::{
                    Mixed, Strip, Turns,
                    vector::{
                        fold, mix,
                        product::{self, Product},
                        rotate, score, softmax,
                    },
                },
                memory::LINE_BYTES,
            };

            // Of every method: `self` exists, so the CPU has the features, and `AttentionKernels`
            // has checked the sizes.
            impl $simd {
                pub(in crate::kernels::attention) fn most_queries(self) -> usize {
                    $most_queries
                }

                /// See `AttentionKernels::prefetch`.
                pub(in crate::kernels::attention) fn prefetch(self, soon: &[u8]) {
                    for line in soon.chunks(LINE_BYTES) {
                        crate::kernels::attention::vector::simd::Simd::prefetch(
                            self,
                            line.as_ptr(),
                        );
                    }
                }

                /// See `AttentionKernels::rotate`.
                pub(in crate::kernels::attention) fn rotate(
                    self,
                    turns: Turns<'_>,
                    head: &[f32],
                    place: &mut [f32],
                ) {
                    #[target_feature(enable = $features)]
                    fn run(simd: $simd, turns: Turns<'_>, head: &[f32], place: &mut [f32]) {
                        // SAFETY: sizes were checked.
                        unsafe { rotate::rotate(simd, turns, head, place) };
                    }
                    // SAFETY: the CPU has the features.
                    unsafe { run(self, turns, head, place) }
                }

                /// See `AttentionKernels::pack`.
                pub(in crate::kernels::attention) fn pack(
                    self,
                    dtype: CacheType,
                    query: &[f32],
                    scale: f32,
                    place: &mut [f32],
                ) {
                    #[target_feature(enable = $features)]
                    fn run<P: Product<$simd>>(
                        simd: $simd,
                        query: &[f32],
                        scale: f32,
                        place: &mut [f32],
                    ) {
                        // SAFETY: sizes were checked.
                        unsafe { softmax::pack::<$simd, P>(simd, query, scale, place) };
                    }
                    // SAFETY: the CPU has the features.
                    unsafe {
                        match dtype {
                            CacheType::F32 => run::<product::F32>(self, query, scale, place),
                            CacheType::Bf16 => run::<$bf16>(self, query, scale, place),
                            CacheType::F16 => run::<product::F16>(self, query, scale, place),
                            CacheType::Int8 => run::<product::Int8>(self, query, scale, place),
                        }
                    }
                }

                /// See `AttentionKernels::score`.
                pub(in crate::kernels::attention) fn score(
                    self,
                    strip: &Strip<'_>,
                    queries: &[f32],
                    scores: &mut Rectangle<'_>,
                ) {
                    match strip.dtype() {
                        CacheType::F32 => self.score_as::<product::F32>(strip, queries, scores),
                        CacheType::Bf16 => self.score_as::<$bf16>(strip, queries, scores),
                        CacheType::F16 => self.score_as::<product::F16>(strip, queries, scores),
                        CacheType::Int8 => self.score_as::<product::Int8>(strip, queries, scores),
                    }
                }

                fn score_as<P: Product<$simd>>(
                    self,
                    strip: &Strip<'_>,
                    queries: &[f32],
                    scores: &mut Rectangle<'_>,
                ) {
                    #[target_feature(enable = $features)]
                    fn run<P: Product<$simd>, const M: usize, const V: usize>(
                        simd: $simd,
                        strip: &Strip<'_>,
                        queries: &[f32],
                        scores: &mut Rectangle<'_>,
                    ) {
                        // SAFETY: sizes were checked.
                        unsafe { score::score::<$simd, P, M, V>(simd, strip, queries, scores) };
                    }
                    // SAFETY: the CPU has the features.
                    unsafe {
                        match scores.rows() {
                            $($queries => {
                                run::<P, $queries, $registers>(self, strip, queries, scores);
                            })*
                            rows => unreachable!("{rows} queries at once"),
                        }
                    }
                }

                /// See `AttentionKernels::weigh`.
                pub(in crate::kernels::attention) fn weigh(
                    self,
                    strip: &Strip<'_>,
                    scores: &mut Rectangle<'_>,
                    first: usize,
                    mixed: &mut Mixed<'_>,
                ) {
                    #[target_feature(enable = $features)]
                    fn run<P: Product<$simd>>(
                        simd: $simd,
                        strip: &Strip<'_>,
                        scores: &mut Rectangle<'_>,
                        first: usize,
                        mixed: &mut Mixed<'_>,
                    ) {
                        // SAFETY: sizes were checked.
                        unsafe { softmax::weigh::<$simd, P>(simd, strip, scores, first, mixed) };
                    }
                    // SAFETY: the CPU has the features.
                    unsafe {
                        match strip.dtype() {
                            CacheType::F32 => {
                                run::<product::F32>(self, strip, scores, first, mixed);
                            }
                            CacheType::Bf16 => run::<$bf16>(self, strip, scores, first, mixed),
                            CacheType::F16 => {
                                run::<product::F16>(self, strip, scores, first, mixed);
                            }
                            CacheType::Int8 => {
                                run::<product::Int8>(self, strip, scores, first, mixed);
                            }
                        }
                    }
                }

                /// See `mix::mix`.
                pub(in crate::kernels::attention) fn mix(
                    self,
                    strip: &Strip<'_>,
                    tokens: Range<usize>,
                    weights: (&[f32], usize),
                    sums: (&mut Rectangle<'_>, bool),
                ) {
                    match strip.dtype() {
                        CacheType::F32 => self.mix_as::<product::F32>(strip, tokens, weights, sums),
                        CacheType::Bf16 => self.mix_as::<$bf16>(strip, tokens, weights, sums),
                        CacheType::F16 => self.mix_as::<product::F16>(strip, tokens, weights, sums),
                        CacheType::Int8 => {
                            self.mix_as::<product::Int8>(strip, tokens, weights, sums);
                        }
                    }
                }

                fn mix_as<P: Product<$simd>>(
                    self,
                    strip: &Strip<'_>,
                    tokens: Range<usize>,
                    weights: (&[f32], usize),
                    sums: (&mut Rectangle<'_>, bool),
                ) {
                    #[target_feature(enable = $features)]
                    fn run<P: Product<$simd>, const M: usize, const V: usize>(
                        simd: $simd,
                        strip: &Strip<'_>,
                        tokens: Range<usize>,
                        weights: (&[f32], usize),
                        sums: (&mut Rectangle<'_>, bool),
                    ) {
                        // SAFETY: sizes were checked.
                        unsafe { mix::mix::<$simd, P, M, V>(simd, strip, tokens, weights, sums) };
                    }
                    // SAFETY: the CPU has the features.
                    unsafe {
                        match sums.0.rows() {
                            $($queries => {
                                run::<P, $queries, $registers>(self, strip, tokens, weights, sums);
                            })*
                            rows => unreachable!("{rows} queries at once"),
                        }
                    }
                }

                /// See `AttentionKernels::fold`; a head is `width` wide.
                pub(in crate::kernels::attention) fn fold(
                    self,
                    whole: &mut Mixed<'_>,
                    part: &Mixed<'_>,
                    queries: Range<usize>,
                    width: usize,
                ) {
                    #[target_feature(enable = $features)]
                    fn run(
                        simd: $simd,
                        whole: &mut Mixed<'_>,
                        part: &Mixed<'_>,
                        queries: Range<usize>,
                        width: usize,
                    ) {
                        // SAFETY: sizes were checked.
                        unsafe { fold::fold(simd, whole, part, queries, width) };
                    }
                    // SAFETY: the CPU has the features.
                    unsafe { run(self, whole, part, queries, width) }
                }
            }
        };
    };
}
