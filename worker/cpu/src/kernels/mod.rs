//! The inner loops, once per instruction set, and which of them runs.
//!
//! `scalar`, here and in the folders below, says in plain Rust what each kernel computes. What is fast is
//! beside it: in `vector` what all instruction sets share, in files of their names what they don't.

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod rows;

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod int8;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod plane;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod vector;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::{
    CpuError, Isa,
    disjoint::Rectangle,
    matrix::{FloatType, GROUP, QuantWeights, Run, SUB_BLOCK, Weights},
    operand::{FloatPanels, PairOrder, PairPanels, PairRow, QuantPanels, QuantRows, Rows},
};

pub(crate) use plane::Plane;

use int8::Int8;

pub(crate) use attention::{AttentionKernels, Mixed, Strip, StripHeads, Turns, width};

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
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(attention::Avx512Bf16),
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx),
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
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512Bf16(kernels) => {
                let $variant = kernels.without_bf16();
                $call
            }
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(kernels) => {
                let $variant = kernels.without_amx().without_bf16();
                $call
            }
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
        let found = Isa::ALL.into_iter().rev().find_map(Self::find);
        found.expect("plain Rust runs everywhere")
    }

    fn find(isa: Isa) -> Option<Self> {
        let variant = match isa {
            Isa::Scalar => Some(Variant::Scalar(scalar::Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => vector::Avx2::new().map(Variant::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => vector::Avx512::new().map(Variant::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => attention::Avx512Bf16::new().map(Variant::Avx512Bf16),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => amx::Amx::new().map(Variant::Amx),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => None,
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
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512Bf16(_) => Isa::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(_) => Isa::Amx,
        }
    }

    /// Most rows of a panel of [`Kernels::multiply_panel`].
    pub(crate) fn panel_rows(self) -> usize {
        each!(self, kernels => kernels.panel_rows())
    }

    /// Products of every row of a panel with every output of `weights`. `panel` is
    /// `[inputs][rows]`, `products` `[rows, outputs]`, which may be fewer outputs than the groups hold;
    /// with `add`, what is in them counts.
    ///
    /// Each product is added up along the inputs, one by one and in their order, whatever the number
    /// of rows: so a row's products have the same bits in any batch.
    pub(crate) fn multiply_panel(
        self,
        weights: Weights<'_, FloatType>,
        panel: &[f32],
        products: Rectangle<'_>,
        add: bool,
    ) {
        weights.check();
        assert!((1..=self.panel_rows()).contains(&products.rows()), "rows of a panel");
        assert!(panel.len() >= weights.inputs * products.rows(), "a panel of all inputs");
        each!(self, kernels => kernels.multiply_panel(weights, panel, products, add));
    }

    /// Products in float32 of all rows of `x` with quantised weights, which are dequantised on the way:
    /// those of [`Kernels::multiply_panel`] with the weights that they stand for; on top of what is there if
    /// `add`.
    pub(crate) fn multiply_dequantised(
        self,
        weights: &QuantWeights<'_>,
        x: &FloatPanels,
        products: &mut Rectangle<'_>,
        add: bool,
    ) {
        /// Sub-blocks at a time: 16 KiB of float32.
        const CHUNK: usize = 8;
        weights.check();
        let mut planes = [Plane::default(); CHUNK];
        let mut expanded = [[[0.0; GROUP]; SUB_BLOCK]; CHUNK];
        let first = weights.sub_blocks.start;
        for group in 0..weights.groups {
            let outputs = group * GROUP..products.columns().min((group + 1) * GROUP);
            for start in weights.sub_blocks.clone().step_by(CHUNK) {
                let chunk = start..weights.sub_blocks.end.min(start + CHUNK);
                let planes = &mut planes[..chunk.len()];
                self.unpack(weights, group, chunk.clone(), planes);
                for (plane, expanded) in planes.iter().zip(&mut expanded) {
                    each!(self, kernels => kernels.expand(plane, expanded));
                }
                let floats = Weights {
                    block_type: FloatType::F32,
                    records: bytemuck::cast_slice(&expanded[..chunk.len()]),
                    groups: 1,
                    inputs: chunk.len() * SUB_BLOCK,
                    group_bytes: 0,
                };
                for (rows, panel) in x.panels() {
                    let panel = &panel[(start - first) * SUB_BLOCK * rows.len()..];
                    let products = products.part(rows, outputs.clone());
                    self.multiply_panel(floats, panel, products, add || start > first);
                }
            }
        }
    }

    /// Whether there are kernels for activations in bfloat16.
    #[must_use]
    pub fn has_pairs(self) -> bool {
        matches!(self.isa(), Isa::Avx512Bf16 | Isa::Amx)
    }

    /// How the columns of operands in bfloat16 are paired.
    pub(crate) fn pair_order(self) -> PairOrder {
        match self.isa() {
            Isa::Amx => PairOrder::EvenFirst,
            _ => PairOrder::Natural,
        }
    }

    /// Products in bfloat16 of all rows of `x` with weights of any type: see [`pairs`].
    ///
    /// # Panics
    /// If there are no such kernels.
    pub(crate) fn multiply_pairs(
        self,
        run: &Run<'_>,
        x: &PairPanels,
        products: &mut Rectangle<'_>,
    ) {
        run.check();
        assert_eq!(x.columns(), self.pair_order().pairs(run.inputs()), "pairs of all inputs");
        assert_eq!(x.rows(), products.rows(), "products for all rows");
        assert!(products.columns().div_ceil(GROUP) == run.groups(), "products of all groups");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512Bf16(bf16) => pairs::multiply_chains(self, bf16, run, x, products),
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(amx) => pairs::multiply_tiles(self, amx, run, x, products),
            _ => panic!("{} has no products of bfloat16", self.isa()),
        }
    }

    /// Rounds as many elements as `row` has room for to bfloat16.
    ///
    /// # Panics
    /// If there are no such kernels.
    pub(crate) fn round(self, values: &[f32], row: PairRow<'_>) {
        assert_eq!(self.pair_order().pairs(values.len()), row.len(), "elements for all pairs");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512Bf16(bf16) => pairs::round_row(bf16, values, &row, self.pair_order()),
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(amx) => {
                pairs::round_row(amx.without_amx(), values, &row, self.pair_order());
            }
            _ => panic!("{} doesn't round to bfloat16", self.isa()),
        }
    }

    /// Thirty-two inputs of one group as floats: its `block`-th, zeros where there are fewer.
    pub(crate) fn expand_block(
        self,
        run: &Run<'_>,
        group: usize,
        block: usize,
        into: &mut [[f32; GROUP]; SUB_BLOCK],
    ) {
        match run {
            Run::Quants(weights) => {
                let mut plane = [Plane::default()];
                let sub_block = weights.sub_blocks.start + block;
                self.unpack(weights, group, sub_block..sub_block + 1, &mut plane);
                each!(self, kernels => kernels.expand(&plane[0], into));
            }
            Run::Floats(weights) => {
                *into = [[0.0; GROUP]; SUB_BLOCK];
                let records = weights.group(group).skip(block * SUB_BLOCK);
                for (record, weights_of) in records.zip(into) {
                    weights.block_type.widen(record, weights_of);
                }
            }
        }
    }

    /// Most rows of a panel of activations in bfloat16.
    pub(crate) fn pair_panel_rows(self) -> usize {
        16
    }

    /// Most rows of a panel of quantised activations.
    pub(crate) fn quant_panel_rows(self) -> usize {
        fn rows<K: Int8>(_: K) -> usize {
            K::PANEL_ROWS
        }
        each!(self, kernels => rows(kernels))
    }

    /// Products of all rows of `x` with quantised weights, on top of what is there if `add`: see [`int8`].
    pub(crate) fn multiply_quants(
        self,
        weights: &QuantWeights<'_>,
        x: &QuantPanels,
        products: &mut Rectangle<'_>,
        add: bool,
    ) {
        weights.check();
        assert_eq!(x.columns(), weights.sub_blocks.len() * SUB_BLOCK, "columns for all inputs");
        assert_eq!(x.rows(), products.rows(), "products for all rows");
        assert!(products.columns().div_ceil(GROUP) == weights.groups, "products of all groups");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Variant::Amx(amx) if int8::tiles_pay(weights.quant_type, x.rows()) => {
                int8::multiply(amx, weights, x, products, add);
            }
            _ => each!(self, kernels => int8::multiply(kernels, weights, x, products, add)),
        }
    }

    /// Unpacks `sub_blocks` of one group.
    pub(crate) fn unpack(
        self,
        weights: &QuantWeights<'_>,
        group: usize,
        sub_blocks: Range<usize>,
        planes: &mut [Plane],
    ) {
        weights.check();
        assert!(
            group < weights.groups && sub_blocks.end <= weights.sub_blocks.end,
            "in the weights"
        );
        each!(self, kernels => int8::unpack(kernels, weights, group, sub_blocks, planes));
    }

    /// Quantises as many elements as there are places, thirty-two at a time: the greatest magnitude becomes
    /// 127, the others the nearest whole numbers, halves to even.
    pub(crate) fn quantise(self, values: Rows<'_>, places: QuantRows<'_>) {
        let room = (places.count(), places.sub_blocks() * SUB_BLOCK);
        assert_eq!((values.count(), values.columns()), room, "as many elements as places");
        each!(self, kernels => kernels.quantise(values, places));
    }

    /// `x / sqrt(mean(x^2) + epsilon) * gain`
    pub(crate) fn rms_norm(self, x: &[f32], gain: &[f32], epsilon: f32, normed: &mut [f32]) {
        assert_eq!((gain.len(), normed.len()), (x.len(), x.len()), "as many of each");
        each!(self, kernels => kernels.rms_norm(x, gain, epsilon, normed));
    }

    /// Adds `x` to `sum`, element by element.
    pub(crate) fn add(self, sum: &mut [f32], x: &[f32]) {
        assert_eq!(sum.len(), x.len(), "as many of each");
        each!(self, kernels => kernels.add(sum, x));
    }

    /// The greatest of some numbers; negative infinity if there is none. What is not a number counts
    /// as none.
    pub(crate) fn greatest(self, values: &[f32]) -> f32 {
        each!(self, kernels => kernels.greatest(values))
    }

    /// `gate / (1 + exp(-gate)) * up`, in place of `gate`.
    pub(crate) fn silu_mul(self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "as many gates as ups");
        each!(self, kernels => kernels.silu_mul(gate, up));
    }
}
