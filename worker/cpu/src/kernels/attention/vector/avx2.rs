//! AVX2: eight lanes, half a group of tokens in one register.

use std::arch::x86_64::*;

use super::{Avx2, simd::Simd};

// There are 16 registers: for the sums, what is stored, as pairs if need be, and a factor.
attention_kernels!(
    Avx2,
    "avx2,fma,f16c",
    bf16: product::Bf16,
    most_queries: 4,
    registers: { 1 => 4, 2 => 4, 3 => 2, 4 => 2 }
);

impl Simd for Avx2 {
    type Floats = __m256;
    type Words = __m256i;
    const LANES: usize = 8;

    instructions! {
        fn splat(self, x: f32) -> __m256 = _mm256_set1_ps(x);
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn add(self, a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(self, a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(self, a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn max(self, a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn round(self, x: __m256) -> __m256 =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        fn times_power_of_two(self, x: __m256, n: __m256) -> __m256 = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        };
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
        fn swap_neighbours(self, x: __m256) -> __m256 = _mm256_permute_ps::<0b10_11_00_01>(x);
        fn lower_halves(self, words: __m256i) -> __m256 =
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
        fn upper_halves(self, words: __m256i) -> __m256 =
            _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(-1 << 16)));
        fn prefetch(self, from: *const u8) = _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }

    instructions! {
        unsafe fn load(self, from: *const f32) -> __m256 = _mm256_loadu_ps(from);
        unsafe fn store(self, to: *mut f32, x: __m256) = _mm256_storeu_ps(to, x);
        unsafe fn load_halves(self, from: *const u8) -> __m256 =
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
        unsafe fn load_bytes(self, from: *const u8) -> __m256 =
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())));
        unsafe fn load_words(self, from: *const u8) -> __m256i = _mm256_loadu_si256(from.cast());
    }
}
