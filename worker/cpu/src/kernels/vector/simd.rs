//! What the fast kernels need of an instruction set.

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
    /// Lanes of a register; divides the group of a matrix.
    const LANES: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::Floats;
    /// The low eight bits of each word, as numbers.
    fn lowest_bytes(self, words: Self::Words) -> Self::Floats;
    /// Each word without its low eight bits, the rest moved down.
    fn drop_bytes(self, words: Self::Words) -> Self::Words;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `a + b`
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b`
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a / b`
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The lesser; `b` if one is not a number.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The greater; `b` if one is not a number.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The nearest whole number, halves to even.
    fn round(self, x: Self::Floats) -> Self::Floats;
    /// 2 to the power of `n`, a whole number from -126 to 127.
    fn power_of_two(self, n: Self::Floats) -> Self::Floats;
    /// Lane by lane 0 where `x < limit`, else `value`.
    fn zero_below(self, x: Self::Floats, limit: Self::Floats, value: Self::Floats) -> Self::Floats;
    /// The lanes added in pairs: upper half to lower half, again and again.
    fn sum(self, x: Self::Floats) -> f32;

    /// Asks for the line at `from`, which need not be readable, in the second-level cache.
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
    /// The greatest magnitude of a sub-block; not finite if one of the values isn't.
    ///
    /// # Safety
    /// `values` points to thirty-two.
    unsafe fn greatest_magnitude(self, values: *const f32) -> f32;
    /// Multiplies a sub-block by `scale`, which makes at most 127 of a magnitude, and writes the nearest
    /// whole numbers, halves to even. Gives the sums of the first and of the other sixteen.
    ///
    /// # Safety
    /// `values` points to thirty-two, and `quants` to room for as many.
    unsafe fn quantise(self, values: *const f32, scale: f32, quants: *mut i8) -> [i32; 2];
    /// Reads halves.
    ///
    /// # Safety
    /// `from` points to `2 * LANES` bytes.
    unsafe fn load_halves(self, from: *const u8) -> Self::Floats;
    /// Reads float32 of which the upper halves are stored and the lower ones are zeros.
    ///
    /// # Safety
    /// `from` points to `2 * LANES` bytes.
    unsafe fn load_upper_halves(self, from: *const u8) -> Self::Floats;
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
