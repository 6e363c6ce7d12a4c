//! The bfloat16 form.

use half::bf16;

/// Values rounded to bfloat16: two that follow each other are a pair, in one word, the first in its upper
/// half, which processors multiply and add first. After an odd last one comes a zero.
pub(super) fn pairs(values: &[f32]) -> impl ExactSizeIterator<Item = u32> {
    let half = |value: f32| u32::from(bf16::from_f32(value).to_bits());
    values.chunks(2).map(move |pair| {
        let second = pair.get(1).copied().unwrap_or(0.0);
        half(pair[0]) << 16 | half(second)
    })
}
