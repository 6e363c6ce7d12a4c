//! The operations of the backend: how each cuts its work among the threads and what it computes.

mod add;
mod attention;
mod best;
mod bias;
mod copy;
mod embed;
mod linear;
mod mlp;
mod norm;
mod operand;
mod rope;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub(crate) use add::add;
pub(crate) use attention::{AttentionInput, attention};
pub(crate) use best::{best, best_of_ranks};
pub(crate) use bias::add_bias;
pub(crate) use copy::copy_blocks;
pub(crate) use embed::embed;
pub(crate) use linear::{linear, linear_add};
pub(crate) use mlp::gated_linear;
pub(crate) use norm::rms_norm;
pub(crate) use operand::operand;
pub(crate) use rope::RopeTable;

use crate::{Kernels, operand::Forms, pool::Pool, workspace::Workspace};

/// What every operation computes with.
pub(crate) struct Machine {
    pub(crate) kernels: Kernels,
    /// What the matrices that were packed are multiplied with.
    pub(crate) forms: Forms,
    pub(crate) pool: Pool,
    pub(crate) workspace: Workspace,
}

/// Multiply-adds that are worth a thread's waking: a few microseconds.
const SHARE_OF_PRODUCTS: usize = 1 << 16;

/// Elements to look at that are worth it, where little is computed for each.
const SHARE_OF_ELEMENTS: usize = 1 << 13;
