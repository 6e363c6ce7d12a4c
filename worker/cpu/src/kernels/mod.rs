//! The inner loops, once per instruction set, and which of them runs.
//!
//! `scalar` says in plain Rust what each kernel computes; `vector` has the fast ones.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod vector;

#[cfg(test)]
mod tests;

use shardrun_model::CacheType;

use crate::{CpuError, Isa, disjoint::Rectangle, matrix::Weights};

/// Most rows that [`Kernels::multiply_rows`] takes.
pub(crate) const MOST_ROWS: usize = 8;

/// Kernels that this CPU was found to run.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(Variant);

#[derive(Clone, Copy, Debug)]
enum Variant {
    Scalar(scalar::Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(vector::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(vector::Avx512),
}

/// Calls the same function of whichever kernels these are.
macro_rules! each {
    ($kernels:expr, $variant:ident => $call:expr) => {
        match $kernels.0 {
            Variant::Scalar($variant) => $call,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx2($variant) => $call,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512($variant) => $call,
        }
    };
}

impl Kernels {
    /// The kernels for `isa`.
    ///
    /// # Errors
    /// [`CpuError::UnsupportedIsa`] if this CPU lacks it.
    pub fn new(isa: Isa) -> Result<Self, CpuError> {
        Self::find(isa).ok_or_else(|| CpuError::UnsupportedIsa { isa, best: Self::detect().isa() })
    }

    /// The fastest that run on this CPU.
    #[must_use]
    pub fn detect() -> Self {
        let fast = Isa::ALL.into_iter().rev().find_map(Self::find);
        fast.unwrap_or(Self(Variant::Scalar(scalar::Scalar)))
    }

    fn find(isa: Isa) -> Option<Self> {
        let variant = match isa {
            Isa::Scalar => Some(Variant::Scalar(scalar::Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => vector::Avx2::new().map(Variant::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => vector::Avx512::new().map(Variant::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => None,
        };
        variant.map(Self)
    }

    /// The instruction set that they use.
    #[must_use]
    pub fn isa(self) -> Isa {
        match self.0 {
            Variant::Scalar(_) => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512(_) => Isa::Avx512,
        }
    }

    /// Most rows of a panel of [`Kernels::multiply_panel`].
    pub(crate) fn panel_rows(self) -> usize {
        each!(self, kernels => kernels.panel_rows())
    }

    /// Products of every row of a panel with every output of `weights`. `panel` is
    /// `[inputs][rows]`, `products` `[rows, outputs]`, which may be fewer outputs than the groups hold.
    ///
    /// Each product is added up along the inputs, one by one and in their order, whatever the number
    /// of rows: so a row's products have the same bits in any batch.
    pub(crate) fn multiply_panel(
        self,
        weights: Weights<'_>,
        panel: &[f32],
        products: Rectangle<'_>,
    ) {
        weights.check();
        assert!((1..=self.panel_rows()).contains(&products.rows()), "rows of a panel");
        assert!(panel.len() >= weights.inputs * products.rows(), "a panel of all inputs");
        each!(self, kernels => kernels.multiply_panel(weights, panel, products));
    }

    /// Adds to `sums` `[rows, outputs]` the products of up to [`MOST_ROWS`] rows, which begin
    /// `stride` apart in `inputs`, with `weights` of the cache; scales are the caller's. The order is
    /// that of [`Kernels::multiply_panel`], beginning with what is in `sums`.
    pub(crate) fn multiply_rows(
        self,
        weights: Weights<'_, CacheType>,
        inputs: &[f32],
        stride: usize,
        sums: Rectangle<'_>,
    ) {
        weights.check();
        assert!((1..=MOST_ROWS).contains(&sums.rows()), "rows within the limit");
        assert!(inputs.len() >= (sums.rows() - 1) * stride + weights.inputs, "inputs of all rows");
        each!(self, kernels => kernels.multiply_rows(weights, inputs, stride, sums));
    }

    /// Asks for memory that will be read soon.
    pub(crate) fn prefetch(self, soon: &[u8]) {
        each!(self, kernels => kernels.prefetch_all(soon));
    }

    /// Turns scores into `exp(scale * (score - greatest))` and returns their sum. `scale` is positive.
    pub(crate) fn softmax(self, scores: &mut [f32], scale: f32) -> f32 {
        each!(self, kernels => kernels.softmax(scores, scale))
    }

    /// `gate / (1 + exp(-gate)) * up`, in place of `gate`.
    pub(crate) fn silu_mul(self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "as many gates as ups");
        each!(self, kernels => kernels.silu_mul(gate, up));
    }
}
