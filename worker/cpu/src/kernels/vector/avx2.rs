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
        fn prefetch(self, from: *const u8) = _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }

    instructions! {
        unsafe fn load(self, from: *const f32) -> __m256 = _mm256_loadu_ps(from);
        unsafe fn store(self, to: *mut f32, x: __m256) = _mm256_storeu_ps(to, x);
        unsafe fn greatest_magnitude(self, values: *const f32) -> f32 = {
            // As whole numbers, magnitudes have the same order, and what is not a number comes last.
            let bits = |at| {
                let values = _mm256_loadu_si256(values.add(at).cast());
                _mm256_and_si256(values, _mm256_set1_epi32(i32::MAX))
            };
            let max = _mm256_max_epu32;
            let eight = max(max(bits(0), bits(8)), max(bits(16), bits(24)));
            let high = _mm256_extracti128_si256::<1>(eight);
            let four = _mm_max_epu32(_mm256_castsi256_si128(eight), high);
            let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
            let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two));
            f32::from_bits(_mm_cvtsi128_si32(one).cast_unsigned())
        };
        unsafe fn quantise(self, values: *const f32, scale: f32, quants: *mut i8) -> [i32; 2] = {
            let words = |at| {
                let values = _mm256_loadu_ps(values.add(at));
                _mm256_cvtps_epi32(_mm256_mul_ps(values, _mm256_set1_ps(scale)))
            };
            // Packing works in halves of a register: their first words end up in the order 0, 2, 1, 3.
            let half = |at| {
                let pairs = _mm256_packs_epi32(words(at), words(at + 8));
                let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                let low = _mm256_castsi256_si128(pairs);
                let high = _mm256_extracti128_si256::<1>(pairs);
                _mm_storeu_si128(quants.add(at).cast(), _mm_packs_epi16(low, high));
                _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
            };
            let sums = _mm256_hadd_epi32(half(0), half(16));
            let sums = _mm256_hadd_epi32(sums, sums);
            let high = _mm256_extracti128_si256::<1>(sums);
            let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), high);
            [_mm_cvtsi128_si32(sums), _mm_extract_epi32::<1>(sums)]
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
