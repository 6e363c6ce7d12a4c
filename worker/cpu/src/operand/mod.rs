//! Activations as linear layers read them.

mod columns;
mod pairs;
mod panels;
mod quants;
mod rows;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use crate::{CpuError, Kernels, workspace::Workspace};

pub(crate) use pairs::{PairOrder, PairPanels, PairRow};
pub(crate) use quants::{QuantPanels, QuantRows, QuantToken, TOKEN_BYTES};
pub(crate) use rows::Rows;

use columns::{ColumnPanels, ColumnWriter};
use quants::QuantWriter;

/// Activations in float32.
pub(crate) type FloatPanels = ColumnPanels<f32>;

/// What matrices are multiplied with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    /// Float32.
    pub(crate) floats: bool,
    /// Whole numbers of eight bits, with a scale for every thirty-two.
    pub(crate) quants: bool,
    /// Bfloat16, in pairs.
    pub(crate) pairs: bool,
}

/// Activations `[rows, columns]` in the forms that the model's matrices ask for.
pub struct Operand {
    rows: usize,
    columns: usize,
    floats: Option<FloatPanels>,
    quants: Option<QuantPanels>,
    pairs: Option<PairPanels>,
}

impl Operand {
    /// An operand whose every element is still to be written.
    pub(crate) fn new(
        workspace: &Workspace,
        rows: usize,
        columns: usize,
        kernels: Kernels,
        forms: Forms,
    ) -> Result<Self, CpuError> {
        // No quantised matrix has other columns.
        let quants = forms.quants && columns.is_multiple_of(crate::matrix::SUB_BLOCK);
        let floats = forms.floats || !(quants || forms.pairs);
        let floats =
            floats.then(|| FloatPanels::new(workspace, rows, columns, kernels.panel_rows()));
        let quants =
            quants.then(|| QuantPanels::new(workspace, rows, columns, kernels.quant_panel_rows()));
        let pairs = forms.pairs.then(|| {
            PairPanels::new(
                workspace,
                rows,
                kernels.pair_order().pairs(columns),
                kernels.pair_panel_rows(),
            )
        });
        Ok(Self {
            rows,
            columns,
            floats: floats.transpose()?,
            quants: quants.transpose()?,
            pairs: pairs.transpose()?,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The float32 form, if it was asked for.
    pub(crate) fn floats(&self) -> Option<&FloatPanels> {
        self.floats.as_ref()
    }

    /// The quantised form, if it was asked for.
    pub(crate) fn quants(&self) -> Option<&QuantPanels> {
        self.quants.as_ref()
    }

    /// The bfloat16 form, if it was asked for.
    pub(crate) fn pairs(&self) -> Option<&PairPanels> {
        self.pairs.as_ref()
    }

    /// A way for several threads to fill it.
    pub(crate) fn writer(&mut self) -> OperandWriter<'_> {
        OperandWriter {
            floats: self.floats.as_mut().map(FloatPanels::writer),
            quants: self.quants.as_mut().map(QuantPanels::writer),
            pairs: self.pairs.as_mut().map(PairPanels::writer),
        }
    }
}

/// Fills an [`Operand`] from several threads.
pub(crate) struct OperandWriter<'a> {
    floats: Option<ColumnWriter<'a, f32>>,
    quants: Option<QuantWriter<'a>>,
    pairs: Option<ColumnWriter<'a, u32>>,
}

impl OperandWriter<'_> {
    /// Writes `values` to as many rows from `first` on, from `column` on, a multiple of 32; they end on one
    /// too, or with the rows.
    ///
    /// # Safety
    /// No other thread writes these elements.
    pub(crate) unsafe fn put(
        &self,
        kernels: Kernels,
        first: usize,
        column: usize,
        values: Rows<'_>,
    ) {
        if let Some(floats) = &self.floats {
            for row in 0..values.count() {
                let values = values.row(row).iter().copied();
                // SAFETY: the caller owns the elements.
                unsafe { floats.put(first + row, column, values) };
            }
        }
        if let Some(quants) = &self.quants {
            let rows = first..first + values.count();
            // SAFETY: the caller owns the elements.
            for (rows, places) in unsafe { quants.places(rows, column, values.columns()) } {
                kernels.quantise(values.part(rows.start - first..rows.end - first), places);
            }
        }
        if let Some(pairs) = &self.pairs {
            assert!(column.is_multiple_of(2), "the first column of a pair");
            let len = kernels.pair_order().pairs(values.columns());
            for row in 0..values.count() {
                // SAFETY: the caller owns the elements.
                let place = unsafe { pairs.place(first + row, column / 2, len) };
                kernels.round(values.row(row), place);
            }
        }
    }
}
