//! How a register of weights comes out of a record; `matrix::records` says what a record is.

use crate::matrix::records::{GROUP, Q4_1_MINIMA, Q4_1_SCALES, Q8_0_SCALES};

use super::simd::Simd;

/// One way to store weights. `lane` is the first lane of a record that a register takes.
///
/// # Safety
/// `record` points to a whole record of the format, for every function.
pub(super) trait Format {
    /// Elements of a block.
    const BLOCK: usize;
    /// Bytes of a record.
    const RECORD: usize;
    /// Elements that one [`Format::load`] is good for.
    const RUN: usize;
    /// What a record's weights have in common.
    type Scale<S: Simd>: Copy;
    /// Weights on their way.
    type Packed<S: Simd>: Copy;

    /// Reads what the record's weights have in common.
    unsafe fn scale<S: Simd>(simd: S, record: *const u8, lane: usize) -> Self::Scale<S>;
    /// Reads elements `RUN * run` to `RUN * (run + 1) - 1`.
    unsafe fn load<S: Simd>(simd: S, record: *const u8, lane: usize, run: usize)
    -> Self::Packed<S>;
    /// The next element of those.
    fn next<S: Simd>(simd: S, packed: &mut Self::Packed<S>, scale: Self::Scale<S>) -> S::Floats;
}

/// Words of eight nibbles, scales, minima.
pub(super) struct Q4_1;
/// `[element][lane]` bytes, scales.
pub(super) struct Q8_0;

/// Formats whose blocks are single numbers: `[lane]`.
macro_rules! numbers {
    ($($(#[$about:meta])* $format:ident: $bytes:literal by $load:ident;)*) => {
        $(
            $(#[$about])*
            pub(super) struct $format;

            impl Format for $format {
                const BLOCK: usize = 1;
                const RECORD: usize = GROUP * $bytes;
                const RUN: usize = 1;
                type Scale<S: Simd> = ();
                type Packed<S: Simd> = S::Floats;

                #[inline(always)]
                unsafe fn scale<S: Simd>(_: S, _: *const u8, _: usize) {}

                #[inline(always)]
                unsafe fn load<S: Simd>(
                    simd: S,
                    record: *const u8,
                    lane: usize,
                    _: usize,
                ) -> S::Floats {
                    // SAFETY: the register's lanes lie inside the record.
                    unsafe { simd.$load(record.add(lane * $bytes).cast()) }
                }

                #[inline(always)]
                fn next<S: Simd>(_: S, packed: &mut S::Floats, (): ()) -> S::Floats {
                    *packed
                }
            }
        )*
    };
}

numbers! {
    /// Float32.
    F32: 4 by load;
    /// Upper halves of float32.
    Bf16: 2 by load_upper_halves;
    /// IEEE halves.
    F16: 2 by load_halves;
    /// Signed bytes.
    Int8: 1 by load_bytes;
}

impl Format for Q4_1 {
    const BLOCK: usize = 32;
    const RECORD: usize = 320;
    const RUN: usize = 8;
    type Scale<S: Simd> = (S::Floats, S::Floats);
    type Packed<S: Simd> = S::Words;

    #[inline(always)]
    unsafe fn scale<S: Simd>(simd: S, record: *const u8, lane: usize) -> (S::Floats, S::Floats) {
        // SAFETY: the register's lanes lie inside the record's scales and minima.
        unsafe {
            let scale = simd.load_halves(record.add(Q4_1_SCALES + lane * 2));
            (scale, simd.load_halves(record.add(Q4_1_MINIMA + lane * 2)))
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, record: *const u8, lane: usize, run: usize) -> S::Words {
        // SAFETY: there are four rows of sixteen words, and `run` is below four.
        unsafe { simd.load_words(record.add(run * 64 + lane * 4)) }
    }

    #[inline(always)]
    fn next<S: Simd>(simd: S, packed: &mut S::Words, scale: (S::Floats, S::Floats)) -> S::Floats {
        let quants = simd.lowest_nibbles(*packed);
        *packed = simd.drop_nibbles(*packed);
        simd.mul_add(quants, scale.0, scale.1)
    }
}

impl Format for Q8_0 {
    const BLOCK: usize = 32;
    const RECORD: usize = 544;
    const RUN: usize = 1;
    type Scale<S: Simd> = S::Floats;
    type Packed<S: Simd> = S::Floats;

    #[inline(always)]
    unsafe fn scale<S: Simd>(simd: S, record: *const u8, lane: usize) -> S::Floats {
        // SAFETY: the register's lanes lie inside the record's scales.
        unsafe { simd.load_halves(record.add(Q8_0_SCALES + lane * 2)) }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, record: *const u8, lane: usize, run: usize) -> S::Floats {
        // SAFETY: there are thirty-two rows of sixteen bytes, and `run` is below thirty-two.
        unsafe { simd.load_bytes(record.add(run * 16 + lane)) }
    }

    #[inline(always)]
    fn next<S: Simd>(simd: S, packed: &mut S::Floats, scale: S::Floats) -> S::Floats {
        simd.mul(*packed, scale)
    }
}
