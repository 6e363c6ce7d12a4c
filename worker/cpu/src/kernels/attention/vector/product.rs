//! How what is stored is multiplied with queries and weights.

use super::simd::Simd;

/// One type of cache, and the instructions to multiply it with. A step is what is multiplied at once:
/// one element of a query or one token, or a pair of them. `cache::layout` says how they lie.
///
/// Factors, which are queries or weights, are kept in floats: `FACTORS` of them are a step.
pub(super) trait Product<S: Simd> {
    /// Elements of a step.
    const STEP: usize;
    /// Bytes of a step in one lane.
    const LANE_BYTES: usize;
    /// Floats that a step's factors take.
    const FACTORS: usize;
    /// Whether factors are as exact as float32.
    const EXACT: bool;
    /// Stored numbers of one step.
    type Stored: Copy;
    /// Factors of one step, the same in all lanes.
    type Factor: Copy;
    /// A register of factors as they are kept.
    type Rounded: Copy;

    /// Reads a register of stored numbers.
    ///
    /// # Safety
    /// `from` points to `LANE_BYTES` for each lane.
    unsafe fn load(simd: S, from: *const u8) -> Self::Stored;
    /// Of a pair only the first, or the second; the other is 0.
    fn only(simd: S, stored: Self::Stored, second: bool) -> Self::Stored;
    /// Reads the factors of one step.
    ///
    /// # Safety
    /// `from` points to `FACTORS` floats.
    unsafe fn splat(simd: S, from: *const f32) -> Self::Factor;
    /// `sum + stored * factor`
    fn add(simd: S, stored: Self::Stored, factor: Self::Factor, sum: S::Floats) -> S::Floats;

    /// `factors` as they are kept.
    fn round(simd: S, factors: S::Floats) -> Self::Rounded;
    /// Adds rounded factors up, in some lanes or other of `sum`.
    fn total(simd: S, rounded: Self::Rounded, sum: S::Floats) -> S::Floats;
    /// Keeps a register of factors as those from number `at` on, which is a multiple of `LANES`.
    ///
    /// # Safety
    /// There is room for all factors from `to` on.
    unsafe fn keep(simd: S, to: *mut f32, at: usize, rounded: Self::Rounded);
}

/// What is the same for all products in float32.
macro_rules! float_factors {
    ($simd:ty) => {
        type Rounded = <$simd>::Floats;
        const EXACT: bool = true;

        #[inline(always)]
        fn round(_: $simd, factors: <$simd>::Floats) -> <$simd>::Floats {
            factors
        }

        #[inline(always)]
        fn total(simd: $simd, rounded: <$simd>::Floats, sum: <$simd>::Floats) -> <$simd>::Floats {
            simd.add(sum, rounded)
        }

        #[inline(always)]
        unsafe fn keep(simd: $simd, to: *mut f32, at: usize, rounded: <$simd>::Floats) {
            // SAFETY: the caller vouches for the room.
            unsafe { simd.store(to.add(at), rounded) }
        }
    };
}

/// Types whose step is one number, in float32.
macro_rules! numbers {
    ($($(#[$about:meta])* $name:ident: $bytes:literal by $load:ident;)*) => {
        $(
            $(#[$about])*
            pub(super) struct $name;

            impl<S: Simd> Product<S> for $name {
                const STEP: usize = 1;
                const LANE_BYTES: usize = $bytes;
                const FACTORS: usize = 1;
                type Stored = S::Floats;
                type Factor = S::Floats;
                float_factors!(S);

                #[inline(always)]
                unsafe fn load(simd: S, from: *const u8) -> S::Floats {
                    // SAFETY: the caller vouches for the bytes.
                    unsafe { simd.$load(from.cast()) }
                }

                #[inline(always)]
                fn only(_: S, stored: S::Floats, _: bool) -> S::Floats {
                    stored
                }

                #[inline(always)]
                unsafe fn splat(simd: S, from: *const f32) -> S::Floats {
                    // SAFETY: the caller vouches for the factor.
                    simd.splat(unsafe { *from })
                }

                #[inline(always)]
                fn add(
                    simd: S,
                    stored: S::Floats,
                    factor: S::Floats,
                    sum: S::Floats,
                ) -> S::Floats {
                    simd.mul_add(stored, factor, sum)
                }
            }
        )*
    };
}

numbers! {
    /// Float32.
    F32: 4 by load;
    /// IEEE halves.
    F16: 2 by load_halves;
    /// Signed bytes.
    Int8: 1 by load_bytes;
}

/// Pairs of bfloat16, in float32: the first times its factor, then the second times its.
pub(super) struct Bf16;

impl<S: Simd> Product<S> for Bf16 {
    const STEP: usize = 2;
    const LANE_BYTES: usize = 4;
    const FACTORS: usize = 2;
    type Stored = (S::Floats, S::Floats);
    type Factor = (S::Floats, S::Floats);
    float_factors!(S);

    #[inline(always)]
    unsafe fn load(simd: S, from: *const u8) -> Self::Stored {
        // SAFETY: the caller vouches for the bytes.
        let words = unsafe { simd.load_words(from) };
        (simd.lower_halves(words), simd.upper_halves(words))
    }

    #[inline(always)]
    fn only(simd: S, (first, next): Self::Stored, second: bool) -> Self::Stored {
        let none = simd.splat(0.0);
        if second { (none, next) } else { (first, none) }
    }

    #[inline(always)]
    unsafe fn splat(simd: S, from: *const f32) -> Self::Factor {
        // SAFETY: the caller vouches for both.
        unsafe { (simd.splat(*from), simd.splat(*from.add(1))) }
    }

    #[inline(always)]
    fn add(simd: S, stored: Self::Stored, factor: Self::Factor, sum: S::Floats) -> S::Floats {
        simd.mul_add(stored.1, factor.1, simd.mul_add(stored.0, factor.0, sum))
    }
}
