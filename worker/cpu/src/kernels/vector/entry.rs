//! Where the generic kernels become code for one instruction set.

/// Gives an instruction set's type its kernels: functions that are compiled with `$features`, into
/// which everything below them inlines. For each number of rows, `panels` says how many registers
/// of outputs to take at a time.
macro_rules! entry_points {
    (
        $simd:ty, $features:literal,
        panel_rows: $panel_rows:literal,
        panels: { $($rows:literal => $registers:literal),* }
    ) => {
        const _: () = {

            use crate::{
                disjoint::Rectangle,
                kernels::vector::{elementwise, formats::{self, Format}, tile},
                kernels::plane::Plane,
                matrix::{FloatType, GROUP, SUB_BLOCK, Weights},
                operand::{QuantRows, Rows},
            };

            impl $simd {
                pub(in crate::kernels) fn panel_rows(self) -> usize {
                    $panel_rows
                }

                /// See `Kernels::multiply_panel`, which checks the sizes.
                pub(in crate::kernels) fn multiply_panel(
                    self,
                    weights: Weights<'_, FloatType>,
                    panel: &[f32],
                    products: Rectangle<'_>,
                    add: bool,
                ) {
                    match weights.block_type {
                        FloatType::F32 => self.panel_of::<formats::F32>(weights, panel, products, add),
                        FloatType::F16 => self.panel_of::<formats::F16>(weights, panel, products, add),
                        FloatType::Bf16 => self.panel_of::<formats::Bf16>(weights, panel, products, add),
                    }
                }

                fn panel_of<F: Format>(
                    self,
                    weights: Weights<'_, FloatType>,
                    panel: &[f32],
                    products: Rectangle<'_>,
                    add: bool,
                ) {
                    #[target_feature(enable = $features)]
                    fn multiply<F: Format, const V: usize, const C: usize>(
                        simd: $simd,
                        weights: Weights<'_, FloatType>,
                        panel: &[f32],
                        products: Rectangle<'_>,
                        add: bool,
                    ) {
                        let panel = tile::Panel(panel.as_ptr());
                        // SAFETY: weights and panel were checked before they came here.
                        unsafe {
                            tile::multiply::<$simd, F, V, C>(simd, weights, panel, products, add);
                        }
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe {
                        match products.rows() {
                            $($rows => multiply::<F, $registers, $rows>(self, weights, panel, products, add),)*
                            rows => unreachable!("a panel of {rows} rows"),
                        }
                    }
                }

                /// See `Kernels::silu_mul`.
                pub(in crate::kernels) fn silu_mul(self, gate: &mut [f32], up: &[f32]) {
                    #[target_feature(enable = $features)]
                    fn silu_mul(simd: $simd, gate: &mut [f32], up: &[f32]) {
                        elementwise::silu_mul(simd, gate, up);
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { silu_mul(self, gate, up) }
                }

                /// See `Kernels::add`.
                pub(in crate::kernels) fn add(
                    self,
                    sum: &mut [f32],
                    x: &[f32],
                ) {
                    #[target_feature(enable = $features)]
                    fn add(
                        simd: $simd,
                        sum: &mut [f32],
                        x: &[f32],
                    ) {
                        elementwise::add(simd, sum, x);
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { add(self, sum, x) }
                }

                /// See `Kernels::greatest`.
                pub(in crate::kernels) fn greatest(self, values: &[f32]) -> f32 {
                    #[target_feature(enable = $features)]
                    fn greatest(simd: $simd, values: &[f32]) -> f32 {
                        elementwise::greatest(simd, values)
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { greatest(self, values) }
                }

                /// See `Kernels::rms_norm`.
                pub(in crate::kernels) fn rms_norm(
                    self,
                    x: &[f32],
                    gain: &[f32],
                    epsilon: f32,
                    normed: &mut [f32],
                ) {
                    #[target_feature(enable = $features)]
                    fn rms_norm(
                        simd: $simd,
                        x: &[f32],
                        gain: &[f32],
                        epsilon: f32,
                        normed: &mut [f32],
                    ) {
                        elementwise::rms_norm(simd, x, gain, epsilon, normed);
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { rms_norm(self, x, gain, epsilon, normed) }
                }

                /// See `Kernels::quantise`.
                pub(in crate::kernels) fn quantise(
                    self,
                    values: Rows<'_>,
                    places: QuantRows<'_>,
                ) {
                    #[target_feature(enable = $features)]
                    fn quantise(
                        simd: $simd,
                        values: Rows<'_>,
                        places: QuantRows<'_>,
                    ) {
                        elementwise::quantise(simd, values, places);
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { quantise(self, values, places) }
                }

                /// See `Kernels::expand`.
                pub(in crate::kernels) fn expand(
                    self,
                    plane: &Plane,
                    weights: &mut [[f32; GROUP]; SUB_BLOCK],
                ) {
                    #[target_feature(enable = $features)]
                    fn expand(
                        simd: $simd,
                        plane: &Plane,
                        weights: &mut [[f32; GROUP]; SUB_BLOCK],
                    ) {
                        elementwise::expand(simd, plane, weights);
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { expand(self, plane, weights) }
                }

                /// e to the power of every element.
                #[cfg(test)]
                pub(in crate::kernels) fn exp(self, values: &mut [f32]) {
                    #[target_feature(enable = $features)]
                    fn exp(simd: $simd, values: &mut [f32]) {
                        for values in values.chunks_mut(<$simd>::LANES) {
                            let x = tile::load_some(simd, values);
                            tile::store_some(simd, values, elementwise::exp(simd, x));
                        }
                    }
                    // SAFETY: `self` exists, so the CPU has the features.
                    unsafe { exp(self, values) }
                }
            }
        };
    };
}
