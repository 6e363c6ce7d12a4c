//! How a register of numbers comes out of a record.

use crate::matrix::GROUP;

use super::simd::Simd;

/// One way to store numbers.
pub(super) trait Format {
    /// Bytes of a record of sixteen.
    const RECORD: usize;

    /// Reads a register's lanes from lane `lane` of a record on.
    ///
    /// # Safety
    /// `record` points to a whole record.
    unsafe fn load<S: Simd>(simd: S, record: *const u8, lane: usize) -> S::Floats;
}

macro_rules! numbers {
    ($($(#[$about:meta])* $format:ident: $bytes:literal by $load:ident;)*) => {
        $(
            $(#[$about])*
            pub(super) struct $format;

            impl Format for $format {
                const RECORD: usize = GROUP * $bytes;

                #[inline(always)]
                unsafe fn load<S: Simd>(simd: S, record: *const u8, lane: usize) -> S::Floats {
                    // SAFETY: the register's lanes lie inside the record.
                    unsafe { simd.$load(record.add(lane * $bytes).cast()) }
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
}
