//! Instruction sets by name.

use std::{fmt, str::FromStr};

use crate::{CpuError, Kernels};

/// An instruction set that kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Whatever the compiler makes of plain Rust: runs everywhere, and is what the others are tested
    /// against.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    Avx512,
    /// The same with BF16, with which attention multiplies a cache of bfloat16 as it is: so it gives other
    /// bits than without.
    Avx512Bf16,
    /// The same with AMX for bfloat16, where the operating system lets a process use it. Activations in
    /// bfloat16 are multiplied with its tiles, which give other bits than without.
    Amx,
}

impl Isa {
    /// All of them, the fastest last.
    pub const ALL: [Self; 5] =
        [Self::Scalar, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The fastest that runs on this CPU.
    #[must_use]
    pub fn detect() -> Self {
        Kernels::detect().isa()
    }

    /// Its name in a deployment file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = CpuError;

    fn from_str(name: &str) -> Result<Self, CpuError> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| CpuError::UnknownIsa { name: name.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse::<Isa>().unwrap(), isa);
        }
        let error = "avx".parse::<Isa>().unwrap_err().to_string();
        assert_eq!(
            error,
            "'avx' is no instruction set; known are 'scalar', 'avx2', 'avx512', 'avx512bf16' and 'amx'"
        );
    }

    #[test]
    fn the_detected_set_runs_and_is_the_fastest_that_does() {
        let runs: Vec<Isa> =
            Isa::ALL.into_iter().filter(|&isa| Kernels::new(isa).is_ok()).collect();
        assert_eq!(runs.last(), Some(&Isa::detect()));
        assert_eq!(runs.first(), Some(&Isa::Scalar));
    }
}
