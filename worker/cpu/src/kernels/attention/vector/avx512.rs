//! AVX-512: sixteen lanes, a whole group of tokens in one register; with and without its instructions
//! for bfloat16.

use std::arch::x86_64::*;

use super::{Avx512, product::Product, simd::Simd};

/// Exists only where the CPU has AVX-512 F, BW, VL, VNNI and BF16.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    pub(in crate::kernels) fn new() -> Option<Self> {
        Avx512::new().filter(|_| is_x86_feature_detected!("avx512bf16")).map(Self)
    }

    pub(in crate::kernels) fn without_bf16(self) -> Avx512 {
        self.0
    }
}

// There are 32 registers, and a multiply-add that takes four to six cycles can begin in each.
attention_kernels!(
    Avx512,
    "avx512f,avx512bw,avx512vl",
    bf16: product::Bf16,
    most_queries: 6,
    registers: { 1 => 8, 2 => 4, 3 => 4, 4 => 4, 5 => 4, 6 => 4 }
);
attention_kernels!(
    Avx512Bf16,
    "avx512f,avx512bw,avx512vl,avx512bf16",
    bf16: Pairs,
    most_queries: 6,
    registers: { 1 => 8, 2 => 4, 3 => 4, 4 => 4, 5 => 4, 6 => 4 }
);

/// Pairs of bfloat16 that are multiplied as such; a step's factors are a pair in one word. What is not
/// a normal number counts as 0.
pub(super) struct Pairs;

impl Product<Avx512Bf16> for Pairs {
    const STEP: usize = 2;
    const LANE_BYTES: usize = 4;
    const FACTORS: usize = 1;
    const EXACT: bool = false;
    type Stored = __m512i;
    type Factor = __m512i;
    type Rounded = __m256bh;

    #[inline(always)]
    unsafe fn load(simd: Avx512Bf16, from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for the bytes.
        unsafe { simd.load_words(from) }
    }

    #[inline(always)]
    fn only(_: Avx512Bf16, stored: __m512i, second: bool) -> __m512i {
        let kept = if second { -1 << 16 } else { 0xffff };
        // SAFETY: the CPU has the instructions, as in every function here.
        unsafe { _mm512_and_si512(stored, _mm512_set1_epi32(kept)) }
    }

    #[inline(always)]
    unsafe fn splat(_: Avx512Bf16, from: *const f32) -> __m512i {
        // SAFETY: the caller vouches for the factors.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read()) }
    }

    #[inline(always)]
    fn add(_: Avx512Bf16, stored: __m512i, factor: __m512i, sum: __m512) -> __m512 {
        // SAFETY: the two types are the same 64 bytes.
        let [stored, factor] =
            unsafe { std::mem::transmute::<[__m512i; 2], [__m512bh; 2]>([stored, factor]) };
        // SAFETY: as above.
        unsafe { _mm512_dpbf16_ps(sum, stored, factor) }
    }

    #[inline(always)]
    fn round(_: Avx512Bf16, factors: __m512) -> __m256bh {
        // SAFETY: as above.
        unsafe { _mm512_cvtneps_pbh(factors) }
    }

    #[inline(always)]
    fn total(_: Avx512Bf16, rounded: __m256bh, sum: __m512) -> __m512 {
        /// 1 as bfloat16, twice.
        const ONES: i32 = 0x3f80_3f80;
        // SAFETY: as above; the types are the same 32 bytes.
        unsafe {
            let ones = std::mem::transmute::<__m256i, __m256bh>(_mm256_set1_epi32(ONES));
            // An addition makes a shorter chain than a product.
            let pairs = _mm256_dpbf16_ps(_mm256_setzero_ps(), rounded, ones);
            _mm512_add_ps(sum, _mm512_zextps256_ps512(pairs))
        }
    }

    #[inline(always)]
    unsafe fn keep(_: Avx512Bf16, to: *mut f32, at: usize, rounded: __m256bh) {
        // SAFETY: the caller vouches for the room; the types are the same 32 bytes.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(rounded);
            _mm256_storeu_si256(to.add(at / 2).cast(), rounded);
        }
    }
}

macro_rules! sixteen_lanes {
    ($($simd:ty),*) => {
        $(
            impl Simd for $simd {
                type Floats = __m512;
                type Words = __m512i;
                const LANES: usize = 16;

                instructions! {
                    fn splat(self, x: f32) -> __m512 = _mm512_set1_ps(x);
                    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 =
                        _mm512_fmadd_ps(a, b, c);
                    fn add(self, a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
                    fn sub(self, a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
                    fn mul(self, a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
                    fn max(self, a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
                    fn round(self, x: __m512) -> __m512 = _mm512_roundscale_ps::<
                        { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
                    >(x);
                    fn times_power_of_two(self, x: __m512, n: __m512) -> __m512 = {
                        // Some CPUs take a hundred cycles for a result that isn't normal.
                        let least = _mm512_set1_ps(f32::MIN_EXP as f32 - 1.0);
                        let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(n, least);
                        _mm512_maskz_scalef_ps(normal, x, n)
                    };
                    fn sum(self, x: __m512) -> f32 = _mm512_reduce_add_ps(x);
                    fn greatest(self, x: __m512) -> f32 = _mm512_reduce_max_ps(x);
                    fn swap_neighbours(self, x: __m512) -> __m512 =
                        _mm512_permute_ps::<0b10_11_00_01>(x);
                    fn lower_halves(self, words: __m512i) -> __m512 =
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words));
                    fn upper_halves(self, words: __m512i) -> __m512 = _mm512_castsi512_ps(
                        _mm512_and_si512(words, _mm512_set1_epi32(-1 << 16)),
                    );
                    fn prefetch(self, from: *const u8) = _mm_prefetch::<_MM_HINT_T1>(from.cast());
                }

                instructions! {
                    unsafe fn load(self, from: *const f32) -> __m512 = _mm512_loadu_ps(from);
                    unsafe fn store(self, to: *mut f32, x: __m512) = _mm512_storeu_ps(to, x);
                    unsafe fn load_halves(self, from: *const u8) -> __m512 =
                        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
                    unsafe fn load_bytes(self, from: *const u8) -> __m512 =
                        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())));
                    unsafe fn load_words(self, from: *const u8) -> __m512i =
                        _mm512_loadu_si512(from.cast());
                }
            }
        )*
    };
}

sixteen_lanes!(Avx512, Avx512Bf16);
