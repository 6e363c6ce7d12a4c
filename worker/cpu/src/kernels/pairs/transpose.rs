//! Rows that become columns.

use std::arch::x86_64::*;

/// Sixteen rows of sixteen words, rows for columns.
#[inline(always)]
pub(super) fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: only kernels that were found to run come here, and all of them have AVX-512 F.
    unsafe {
        // Four by four words within each quarter of the registers, then the quarters.
        let mut quarters = [_mm512_setzero_si512(); 16];
        for four in 0..4 {
            let [a, b, c, d] = std::array::from_fn(|row| rows[4 * four + row]);
            let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            quarters[four] = _mm512_unpacklo_epi64(low, low2);
            quarters[4 + four] = _mm512_unpackhi_epi64(low, low2);
            quarters[8 + four] = _mm512_unpacklo_epi64(high, high2);
            quarters[12 + four] = _mm512_unpackhi_epi64(high, high2);
        }
        let mut columns = [_mm512_setzero_si512(); 16];
        for column in 0..4 {
            let [a, b, c, d] = std::array::from_fn(|four| quarters[4 * column + four]);
            let even = _mm512_shuffle_i32x4::<0x88>(a, b);
            let odd = _mm512_shuffle_i32x4::<0xdd>(a, b);
            let even2 = _mm512_shuffle_i32x4::<0x88>(c, d);
            let odd2 = _mm512_shuffle_i32x4::<0xdd>(c, d);
            columns[column] = _mm512_shuffle_i32x4::<0x88>(even, even2);
            columns[4 + column] = _mm512_shuffle_i32x4::<0x88>(odd, odd2);
            columns[8 + column] = _mm512_shuffle_i32x4::<0xdd>(even, even2);
            columns[12 + column] = _mm512_shuffle_i32x4::<0xdd>(odd, odd2);
        }
        columns
    }
}
