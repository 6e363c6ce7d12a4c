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

/// Exists only where the CPU has AMX for bfloat16, and AVX-512 with it, and Linux lets this process use
/// tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amx(Avx512Bf16);

impl Amx {
    pub(super) fn new() -> Option<Self> {
        /// Bits of the leaf of extended features.
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        /// What Linux calls the contents of tiles, and the request to have them kept.
        const TILE_DATA: libc::c_ulong = 18;
        const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
        let avx512 = Avx512Bf16::new()?;
        let features = __cpuid_count(7, 0).edx;
        if features & AMX_TILE == 0 || features & AMX_BF16 == 0 {
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

/// As long as this lives, the thread's tiles are all of full size. Afterwards they are nothing that Linux
/// would have to keep.
pub(super) struct Tiles {
    /// They are the thread's.
    thread: PhantomData<*mut u8>,
}

impl Tiles {
    pub(super) fn new(_: Amx) -> Self {
        /// As the instruction reads it.
        #[repr(C, align(64))]
        struct Shapes {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        /// Eight tiles.
        static SHAPES: Shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: the CPU has tiles of these shapes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
        Self { thread: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the CPU has tiles, since this value exists.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
