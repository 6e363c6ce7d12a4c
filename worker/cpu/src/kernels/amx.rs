//! AMX: tiles of sixteen rows of 64 bytes, two of which are multiplied and added to a third in one
//! instruction.

use std::{
    arch::{asm, x86_64::__cpuid_count},
    marker::PhantomData,
};

use super::attention::Avx512Bf16;

/// Bytes of a tile.
pub(super) const TILE_BYTES: usize = 1024;
/// Rows of a tile, and words of a row.
pub(super) const TILE_ROWS: usize = 16;

/// Exists only where the CPU has AMX for bfloat16 and bytes, and AVX-512 with it, and Linux lets this process
/// use tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amx(Avx512Bf16);

impl Amx {
    pub(super) fn new() -> Option<Self> {
        /// Bits of the leaf of extended features.
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        const AMX_INT8: u32 = 1 << 25;
        /// What Linux calls the contents of tiles, and the request to have them kept.
        const TILE_DATA: libc::c_ulong = 18;
        const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
        let avx512 = Avx512Bf16::new()?;
        let features = __cpuid_count(7, 0).edx;
        let needed = AMX_BF16 | AMX_TILE | AMX_INT8;
        if features & needed != needed {
            return None;
        }
        // SAFETY: the call only changes what this process may use. It fails where Linux doesn't know it.
        let refused =
            unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) };
        (refused == 0).then_some(Self(avx512))
    }

    pub(super) fn without_amx(self) -> Avx512Bf16 {
        self.0
    }
}

/// Rows of a thread's eight tiles, and bytes of a row, as the instruction reads them.
#[repr(C, align(64))]
pub(super) struct TileShapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl TileShapes {
    /// Tiles of so many rows and bytes of a row.
    pub(super) const fn new(shapes: [(usize, usize); 8]) -> Self {
        let mut all =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut tile = 0;
        while tile < shapes.len() {
            let (rows, row_bytes) = shapes[tile];
            assert!(rows >= 1 && rows <= TILE_ROWS, "rows of a tile");
            assert!(row_bytes >= 4 && row_bytes <= 64 && row_bytes % 4 == 0, "words of a row");
            (all.rows[tile], all.row_bytes[tile]) = (rows as u8, row_bytes as u16);
            tile += 1;
        }
        all
    }
}

/// The thread's tiles, as long as this lives. Afterwards they are nothing that Linux would have to keep.
pub(super) struct Tiles {
    /// They are the thread's.
    thread: PhantomData<*mut u8>,
}

impl Tiles {
    pub(super) fn new(_: Amx, shapes: &TileShapes) -> Self {
        // SAFETY: the CPU has tiles of such shapes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly)) };
        Self { thread: PhantomData }
    }

    /// Makes tile `T` zeros.
    #[inline(always)]
    pub(super) fn zero<const T: u8>(&self) {
        // SAFETY: the thread has tiles.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, nomem)) };
    }

    /// Reads tile `T`.
    ///
    /// # Safety
    /// Its rows are there from `from` on, `stride` bytes apart.
    #[inline(always)]
    pub(super) unsafe fn load<const T: u8>(&self, from: *const u8, stride: usize) {
        // SAFETY: the thread has tiles; the caller vouches for the memory.
        unsafe {
            asm!(
                "tileloadd tmm{t}, [{from} + {stride}]",
                t = const T,
                from = in(reg) from,
                stride = in(reg) stride,
                options(nostack, readonly),
            );
        }
    }

    /// Writes tile `T`.
    ///
    /// # Safety
    /// There is room for its rows from `to` on, `stride` bytes apart.
    #[inline(always)]
    pub(super) unsafe fn store<const T: u8>(&self, to: *mut u8, stride: usize) {
        // SAFETY: the thread has tiles; the caller vouches for the memory.
        unsafe {
            asm!(
                "tilestored [{to} + {stride}], tmm{t}",
                t = const T,
                to = in(reg) to,
                stride = in(reg) stride,
                options(nostack),
            );
        }
    }

    /// Adds to tile `C` the products of the rows of `A`, pairs of bfloat16, with the columns of `B`, whose
    /// rows are pairs. Their shapes fit each other. The first factors of all pairs are one chain of
    /// multiply-adds and the second ones another; their sum is added. What is not a normal number counts as
    /// 0.
    #[inline(always)]
    pub(super) fn multiply_pairs<const C: u8, const A: u8, const B: u8>(&self) {
        // SAFETY: the thread has tiles, and the CPU multiplies bfloat16 of them.
        unsafe {
            asm!(
                "tdpbf16ps tmm{c}, tmm{a}, tmm{b}",
                c = const C,
                a = const A,
                b = const B,
                options(nostack, nomem),
            );
        }
    }

    /// Adds to tile `C` the products of the rows of `A`, four signed bytes a word, with the columns of `B`,
    /// whose rows are fours of unsigned ones. Their shapes fit each other.
    #[inline(always)]
    pub(super) fn multiply_bytes<const C: u8, const A: u8, const B: u8>(&self) {
        // SAFETY: the thread has tiles, and the CPU multiplies bytes of them.
        unsafe {
            asm!(
                "tdpbsud tmm{c}, tmm{a}, tmm{b}",
                c = const C,
                a = const A,
                b = const B,
                options(nostack, nomem),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the CPU has tiles, since this value exists.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
