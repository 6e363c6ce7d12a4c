//! What the fast kernels of attention need of an instruction set.

/// One instruction set with vector registers. A value of the type exists only where the CPU has the
/// instructions, so the arithmetic is safe; only reading and writing memory is not.
///
/// The methods inline into functions that are compiled for the instruction set (see `entry`);
/// called from elsewhere they would be right, but slow.
pub(super) trait Simd: Copy {
    /// A register of [`Simd::LANES`] float32.
    type Floats: Copy;
    /// A register of as many 32-bit words.
    type Words: Copy;
    /// Lanes of a register; divides a group of tokens.
    const LANES: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::Floats;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `a + b`
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b`
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The greater; `b` if one is not a number.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The nearest whole number, halves to even.
    fn round(self, x: Self::Floats) -> Self::Floats;
    /// `x` times 2 to the power of `n`, a whole number from -127 to 127; 0 for -127.
    fn times_power_of_two(self, x: Self::Floats, n: Self::Floats) -> Self::Floats;
    /// The lanes added in pairs: upper half to lower half, again and again.
    fn sum(self, x: Self::Floats) -> f32;
    /// The greatest lane.
    fn greatest(self, x: Self::Floats) -> f32;
    /// Lanes 2i and 2i + 1 exchanged.
    fn swap_neighbours(self, x: Self::Floats) -> Self::Floats;
    /// The lower half of each word as the upper half of a float32.
    fn lower_halves(self, words: Self::Words) -> Self::Floats;
    /// The upper half of each word as the upper half of a float32.
    fn upper_halves(self, words: Self::Words) -> Self::Floats;

    /// Asks for the line at `from`, which need not be readable.
    fn prefetch(self, from: *const u8);

    /// Reads float32.
    ///
    /// # Safety
    /// `from` points to `LANES` of them.
    unsafe fn load(self, from: *const f32) -> Self::Floats;
    /// Writes float32.
    ///
    /// # Safety
    /// `to` points to `LANES` of them.
    unsafe fn store(self, to: *mut f32, x: Self::Floats);
    /// Reads IEEE halves.
    ///
    /// # Safety
    /// `from` points to `2 * LANES` bytes.
    unsafe fn load_halves(self, from: *const u8) -> Self::Floats;
    /// Reads signed bytes, as numbers.
    ///
    /// # Safety
    /// `from` points to `LANES` bytes.
    unsafe fn load_bytes(self, from: *const u8) -> Self::Floats;
    /// Reads words.
    ///
    /// # Safety
    /// `from` points to `4 * LANES` bytes.
    unsafe fn load_words(self, from: *const u8) -> Self::Words;
}

/// Implements methods of [`Simd`] by instructions.
macro_rules! instructions {
    ($(fn $name:ident($self:ident $(, $arg:ident: $type:ty)*) $(-> $result:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name($self $(, $arg: $type)*) $(-> $result)? {
                // SAFETY: `self` exists, so the CPU has the instructions.
                unsafe { $body }
            }
        )*
    };
    ($(unsafe fn $name:ident($self:ident $(, $arg:ident: $type:ty)*) $(-> $result:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($self $(, $arg: $type)*) $(-> $result)? {
                // SAFETY: `self` exists, so the CPU has the instructions; the caller vouches for the
                // memory.
                unsafe { $body }
            }
        )*
    };
}
