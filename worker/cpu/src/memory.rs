//! Large zeroed memory that begins on a cache line, in huge pages where the system has them.
//!
//! Weights are streamed whole for every token, and the prefetchers of a CPU stop at the end of a page.
//! The wish for huge pages has to come before the first write, so the memory is mapped here.

use std::{io, ops::Range, sync::Arc};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use crate::CpuError;

/// Bytes of a cache line, and of the widest vector register.
pub(crate) const LINE_BYTES: usize = 64;

/// Bytes of a huge page.
const HUGE_BYTES: usize = 2 << 20;

/// Bytes that an arena maps at once, at least.
const CHUNK_BYTES: usize = 32 << 20;

/// A vector of gains or biases, `[columns]`, as float32.
#[derive(Clone, Debug)]
pub struct Vector(pub(crate) Vec<f32>);

impl Vector {
    pub(crate) fn new(values: &[f32]) -> Result<Self, CpuError> {
        let mut copy = Vec::new();
        let bytes = size_of_val(values) as u128;
        copy.try_reserve_exact(values.len())
            .map_err(|_| CpuError::OutOfMemory { what: "a vector", bytes })?;
        copy.extend_from_slice(values);
        Ok(Self(copy))
    }
}

/// A part of a mapping that nobody else has. It is given back with the last part of the mapping.
pub(crate) struct Memory {
    mapping: Arc<MmapRaw>,
    first: usize,
    bytes: usize,
}

impl Memory {
    /// Zeros, of which nothing is touched.
    pub(crate) fn zeroed(what: &'static str, bytes: usize) -> Result<Self, CpuError> {
        let (mapping, first) = map(what, bytes)?;
        Ok(Self { mapping, first, bytes })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Where it is. Its pages stay until this value is dropped, too.
    pub(crate) fn backing(&self) -> Backing {
        Backing { mapping: Arc::clone(&self.mapping), first: self.first, bytes: self.bytes }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the part is inside the mapping, and only this value's owner writes to it.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().add(self.first), self.bytes) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(self.mapping.as_mut_ptr().add(self.first), self.bytes)
        }
    }
}

/// Where a [`Memory`] is, for those who only care for its pages.
pub(crate) struct Backing {
    mapping: Arc<MmapRaw>,
    first: usize,
    bytes: usize,
}

impl Backing {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has the system give the pages of `range`, whatever is in them and whoever writes to them meanwhile.
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.bytes, "bytes of the memory");
        #[cfg(target_os = "linux")]
        return self.mapping.advise_range(
            memmap2::Advice::PopulateWrite,
            self.first + range.start,
            range.len(),
        );
        #[cfg(not(target_os = "linux"))]
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many bytes of `range`, whole pages, the system has given.
    #[cfg(test)]
    pub(crate) fn resident(&self, range: Range<usize>) -> usize {
        /// Every page is a multiple of it.
        const PAGE: usize = 4096;
        assert!(range.start.is_multiple_of(PAGE) && range.end <= self.bytes, "pages of the memory");
        let mut pages = vec![0u8; range.len().div_ceil(PAGE)];
        // SAFETY: the range is inside the mapping, and there is a byte for each page.
        let failed = unsafe {
            let first = self.mapping.as_mut_ptr().add(self.first + range.start);
            libc::mincore(first.cast(), range.len(), pages.as_mut_ptr())
        };
        assert_eq!(failed, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|&&page| page & 1 == 1).count() * PAGE
    }
}

/// Asks for memory that will be read soon.
#[inline(always)]
pub(crate) fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every CPU of this architecture has the instruction, which changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Hands out memory, small pieces side by side, so that they share huge pages.
#[derive(Default)]
pub(crate) struct Arena {
    /// The last mapping, and up to where it was handed out.
    last: Option<(Arc<MmapRaw>, usize)>,
}

impl Arena {
    /// Zeros, of which nothing is touched. Those of many calls follow each other as long as they fit.
    pub(crate) fn take(&mut self, what: &'static str, bytes: usize) -> Result<Memory, CpuError> {
        if let Some((mapping, used)) = &mut self.last
            && bytes <= mapping.len() - *used
        {
            let first = *used;
            *used = (first + bytes).next_multiple_of(LINE_BYTES).min(mapping.len());
            return Ok(Memory { mapping: Arc::clone(mapping), first, bytes });
        }
        let (mapping, first) = map(what, bytes.max(CHUNK_BYTES))?;
        let used = (first + bytes).next_multiple_of(LINE_BYTES).min(mapping.len());
        self.last = Some((Arc::clone(&mapping), used));
        Ok(Memory { mapping, first, bytes })
    }
}

/// A mapping with room for `bytes` from the place that it tells: the start of a huge page, unless they are
/// fewer than one has.
fn map(what: &'static str, bytes: usize) -> Result<(Arc<MmapRaw>, usize), CpuError> {
    let refused = || CpuError::OutOfMemory { what, bytes: bytes as u128 };
    let slack = if bytes < HUGE_BYTES { LINE_BYTES } else { HUGE_BYTES };
    let len = bytes.checked_add(slack).ok_or_else(refused)?;
    let mapping: MmapMut = MmapOptions::new().len(len).map_anon().map_err(|_| refused())?;
    // Only a wish: what the system answers is no error.
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    let first = if bytes < HUGE_BYTES { 0 } else { mapping.as_ptr().align_offset(HUGE_BYTES) };
    Ok((Arc::new(mapping.into()), first))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zeros_on_lines_of_their_own() {
        let mut arena = Arena::default();
        let mut parts: Vec<Memory> = Vec::new();
        for bytes in [0, 1, 64, 100, 5 << 20, 40 << 20, 3, 31 << 20, 9 << 20] {
            let part = arena.take("a test", bytes).unwrap();
            assert_eq!((part.len(), part.as_slice().len()), (bytes, bytes));
            assert_eq!(part.as_slice().as_ptr() as usize % LINE_BYTES, 0);
            assert!(part.as_slice().iter().all(|&byte| byte == 0));
            parts.push(part);
        }
        for (at, part) in parts.iter_mut().enumerate() {
            part.as_mut_slice().fill(at as u8 + 1);
        }
        for (at, part) in parts.iter().enumerate() {
            assert!(part.as_slice().iter().all(|&byte| byte == at as u8 + 1));
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let error = Memory::zeroed("a test", usize::MAX).err().unwrap();
        assert_eq!(error.to_string(), format!("no memory for a test: {} bytes", usize::MAX));
    }
}
