//! Large zeroed memory that begins on a cache line.

use bytemuck::{Pod, Zeroable};

use crate::CpuError;

/// Bytes of a cache line, and of the widest vector register.
pub(crate) const LINE_BYTES: usize = 64;

/// One cache line; a vector of them begins on one.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; LINE_BYTES]);

/// A vector of gains, `[columns]`, as float32.
#[derive(Clone, Debug)]
pub struct Vector(pub(crate) Vec<f32>);

impl Vector {
    pub(crate) fn new(values: &[f32]) -> Result<Self, CpuError> {
        let mut gains = Vec::new();
        let bytes = size_of_val(values) as u128;
        gains
            .try_reserve_exact(values.len())
            .map_err(|_| CpuError::OutOfMemory { what: "a vector of gains", bytes })?;
        gains.extend_from_slice(values);
        Ok(Self(gains))
    }
}

/// Zeroed memory for at least `bytes`. The system hands out zero pages, so nothing is touched.
pub(crate) fn zeroed(what: &'static str, bytes: usize) -> Result<Vec<Line>, CpuError> {
    let lines = bytemuck::allocation::try_zeroed_vec(bytes.div_ceil(LINE_BYTES))
        .map_err(|()| CpuError::OutOfMemory { what, bytes: bytes as u128 })?;
    prefer_huge_pages(&lines);
    Ok(lines)
}

/// Asks for pages of 2 MiB, since weights are streamed whole for every token and the prefetchers
/// stop at the end of a page. Only a wish: what the system answers is no error.
fn prefer_huge_pages(lines: &[Line]) {
    const HUGE: usize = 2 << 20;
    let start = lines.as_ptr() as usize;
    let first = start.next_multiple_of(HUGE);
    let end = start + size_of_val(lines);
    if first + HUGE > end {
        return;
    }
    // SAFETY: the range lies inside `lines`, and the advice changes no contents.
    unsafe {
        libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE);
    }
}
