//! AVX-512: sixteen lanes, a whole group in one register.

use std::arch::x86_64::*;

use super::simd::Simd;
use crate::matrix::GROUP;

/// Exists only where the CPU has AVX-512 F, BW, VL and VNNI.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Avx512(());

impl Avx512 {
    pub(in crate::kernels) fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    /// A register of the first of up to sixteen outputs, zeros where there are too few.
    #[inline(always)]
    pub(in crate::kernels) fn load_some(self, outputs: &[f32]) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instruction; the mask ends with the outputs.
        unsafe { _mm512_maskz_loadu_ps(lanes(outputs), outputs.as_ptr()) }
    }

    /// Writes the first lanes to as many outputs as there are, up to sixteen.
    #[inline(always)]
    pub(in crate::kernels) fn store_some(self, outputs: &mut [f32], register: __m512) {
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(outputs.as_mut_ptr(), lanes(outputs), register) };
    }
}

/// A bit for each output.
#[inline(always)]
fn lanes(outputs: &[f32]) -> u16 {
    ((1u32 << outputs.len().min(GROUP)) - 1) as u16
}

// Of a panel's 16 rows, each takes one of 32 registers per register of outputs. Few rows take more
// outputs at once, so that there are enough independent sums to hide a multiply-add's latency.
entry_points!(
    Avx512,
    "avx512f,avx512bw,avx512vl,avx512vnni",
    panel_rows: 16,
    panels: {
        1 => 4, 2 => 2, 3 => 2, 4 => 1, 5 => 1, 6 => 1, 7 => 1, 8 => 1,
        9 => 1, 10 => 1, 11 => 1, 12 => 1, 13 => 1, 14 => 1, 15 => 1, 16 => 1
    }
);

impl Simd for Avx512 {
    type Floats = __m512;
    type Words = __m512i;
    const LANES: usize = 16;

    instructions! {
        fn splat(self, x: f32) -> __m512 = _mm512_set1_ps(x);
        fn lowest_bytes(self, words: __m512i) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(255)));
        fn drop_bytes(self, words: __m512i) -> __m512i = _mm512_srli_epi32::<8>(words);
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn add(self, a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(self, a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(self, a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(self, a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn min(self, a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn max(self, a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn round(self, x: __m512) -> __m512 =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        fn power_of_two(self, n: __m512) -> __m512 = _mm512_scalef_ps(_mm512_set1_ps(1.0), n);
        fn zero_below(self, x: __m512, limit: __m512, value: __m512) -> __m512 =
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), value);
        fn sum(self, x: __m512) -> f32 = _mm512_reduce_add_ps(x);
        fn prefetch(self, from: *const u8) = _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }

    instructions! {
        unsafe fn load(self, from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        unsafe fn store(self, to: *mut f32, x: __m512) = _mm512_storeu_ps(to, x);
        unsafe fn greatest_magnitude(self, values: *const f32) -> f32 = {
            // As whole numbers, magnitudes have the same order, and what is not a number comes last.
            let bits = |at| _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(values.add(at))));
            f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(bits(0), bits(16))))
        };
        unsafe fn quantise(self, values: *const f32, scale: f32, quants: *mut i8) -> [i32; 2] = {
            let half = |at| {
                let scaled = _mm512_mul_ps(_mm512_loadu_ps(values.add(at)), _mm512_set1_ps(scale));
                let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(scaled));
                _mm_storeu_si128(quants.add(at).cast(), bytes);
                _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), bytes)
            };
            let sums = _mm_hadd_epi32(half(0), half(16));
            let sums = _mm_hadd_epi32(sums, sums);
            [_mm_cvtsi128_si32(sums), _mm_extract_epi32::<1>(sums)]
        };
        unsafe fn load_halves(self, from: *const u8) -> __m512 =
            _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        unsafe fn load_upper_halves(self, from: *const u8) -> __m512 = {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        };
        unsafe fn load_words(self, from: *const u8) -> __m512i = _mm512_loadu_si512(from.cast());
    }
}
