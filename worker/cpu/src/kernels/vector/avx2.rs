//! AVX2 with FMA and F16C: eight lanes, half a group in one register.

use std::arch::x86_64::*;

use super::simd::Simd;

/// Exists only where the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Avx2(());

impl Avx2 {
    pub(in crate::kernels) fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

// There are 16 registers: for the sums, a weight, its scale and minimum, and an input.
entry_points!(
    Avx2,
    "avx2,fma,f16c",
    panel_rows: 10,
    panels: {
        1 => 4, 2 => 2, 3 => 2, 4 => 2, 5 => 1, 6 => 1, 7 => 1, 8 => 1, 9 => 1, 10 => 1
    }
);

impl Simd for Avx2 {
    type Floats = __m256;
    type Words = __m256i;
    const LANES: usize = 8;

    instructions! {
        fn splat(self, x: f32) -> __m256 = _mm256_set1_ps(x);
        fn lowest_bytes(self, words: __m256i) -> __m256 =
            _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(255)));
        fn drop_bytes(self, words: __m256i) -> __m256i = _mm256_srli_epi32::<8>(words);
        fn magnitude(self, x: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn add(self, a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(self, a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(self, a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div(self, a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn min(self, a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn max(self, a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn round(self, x: __m256) -> __m256 =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        fn power_of_two(self, n: __m256) -> __m256 = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        };
        fn zero_below(self, x: __m256, limit: __m256, value: __m256) -> __m256 =
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x, limit), value);
        fn sum(self, x: __m256) -> f32 = {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        fn greatest(self, x: __m256) -> f32 = {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        fn prefetch(self, from: *const u8) = _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }

    instructions! {
        unsafe fn load(self, from: *const f32) -> __m256 = _mm256_loadu_ps(from);
        unsafe fn store(self, to: *mut f32, x: __m256) = _mm256_storeu_ps(to, x);
        unsafe fn store_bytes(self, to: *mut i8, x: __m256) = {
            let words = _mm256_cvtps_epi32(x);
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            let pairs = _mm_packs_epi32(low, high);
            _mm_storel_epi64(to.cast(), _mm_packs_epi16(pairs, pairs))
        };
        unsafe fn load_halves(self, from: *const u8) -> __m256 =
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
        unsafe fn load_upper_halves(self, from: *const u8) -> __m256 = {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        };
        unsafe fn load_words(self, from: *const u8) -> __m256i = _mm256_loadu_si256(from.cast());
    }
}
