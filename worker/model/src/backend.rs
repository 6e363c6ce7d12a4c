//! The operations that architectures are written in, and that a device implements.

use std::num::NonZeroUsize;
use std::ops::Range;

use shardrun_files::MatrixView;

use crate::{Batch, BlockCopy, CacheShape};

/// A device that runs one rank's share of a model.
///
/// Operations enqueue: an implementation may return before the work is done, and only
/// [`Backend::read`] waits. Activations live in a workspace that the backend lays out per batch
/// shape; a [`Backend::Tensor`] goes back to it when dropped.
///
/// Every operation gives a row the same bits whatever other rows are in the batch, however
/// many threads run, and however a prompt was cut into chunks.
pub trait Backend {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;
    /// A weight matrix in the layout of this backend's kernels.
    type Matrix;
    /// A vector of gains or biases, as float32.
    type Vector;
    /// Float activations `[rows, columns]`.
    type Tensor;
    /// Activations as a linear layer reads them: float32 here, quantised there.
    type Operand;

    /// Packs matrices of equal column counts, stacked by rows, into one (query, key and value in
    /// one product, say).
    ///
    /// # Errors
    /// If the device has no memory for it, or no kernel for its type.
    fn pack(&mut self, parts: &[MatrixView<'_>]) -> Result<Self::Matrix, Self::Error>;

    /// Uploads a vector.
    ///
    /// # Errors
    /// If the device has no memory for it.
    fn vector(&mut self, values: &[f32]) -> Result<Self::Vector, Self::Error>;

    /// Makes the paged cache of keys and values, once; it starts zeroed.
    ///
    /// # Errors
    /// If the device has no memory for it.
    fn allocate_cache(&mut self, shape: CacheShape) -> Result<(), Self::Error>;

    /// Copies blocks of the cache, one after the other in this order: a block may be written by one
    /// copy and read by a later one.
    ///
    /// # Errors
    /// If a block is beyond the cache, or the device failed.
    fn copy_blocks(&mut self, copies: &[BlockCopy]) -> Result<(), Self::Error>;

    /// Takes in what the following operations work on: one call per iteration.
    ///
    /// # Errors
    /// If the device refuses.
    fn begin(&mut self, batch: &Batch) -> Result<(), Self::Error>;

    /// Looks up the batch's tokens in a table that holds the vocabulary's rows from `first_token`
    /// on; tokens outside it give rows of zeros. Gives `[tokens, columns]`.
    ///
    /// # Errors
    /// If the device failed.
    fn embed(
        &mut self,
        table: &Self::Matrix,
        first_token: u32,
    ) -> Result<Self::Tensor, Self::Error>;

    /// `x / sqrt(mean(x^2) + epsilon) * gain`, row by row (Zhang and Sennrich, 2019).
    ///
    /// # Errors
    /// If the device failed.
    fn rms_norm(
        &mut self,
        x: &Self::Tensor,
        gain: &Self::Vector,
        epsilon: f32,
    ) -> Result<Self::Operand, Self::Error>;

    /// `x * transpose(w)`: `[rows, inputs]` by `[outputs, inputs]` gives `[rows, outputs]`.
    ///
    /// # Errors
    /// If the device failed.
    fn linear(&mut self, x: &Self::Operand, w: &Self::Matrix) -> Result<Self::Tensor, Self::Error>;

    /// Adds `bias` to every row of `x`: one element for each of its columns.
    ///
    /// # Errors
    /// If the device failed.
    fn add_bias(
        &mut self,
        x: Self::Tensor,
        bias: &Self::Vector,
    ) -> Result<Self::Tensor, Self::Error>;

    /// Causal attention over the paged cache. `qkv` is `[tokens, (query + 2 * kv heads) * head_dim]`,
    /// queries first, then keys, then values. Rotates queries and keys, stores keys and
    /// values at the batch's places in the cache of `layer`, then reads them back from there: with
    /// a `window`, a token sees itself and the `window - 1` tokens before it, and blocks
    /// that are out of every row's window are not read. Gives `[tokens, query heads * head_dim]`.
    ///
    /// # Errors
    /// If the device failed.
    fn attention(
        &mut self,
        layer: usize,
        qkv: Self::Tensor,
        heads: &HeadShard,
        rope: &Rope,
        window: Option<NonZeroUsize>,
    ) -> Result<Self::Operand, Self::Error>;

    /// `silu(gate) * up` (Shazeer, 2020) with `gate` and `up` the products of `x` with the two matrices, of
    /// equally many rows, that `gate_up` was packed from.
    ///
    /// # Errors
    /// If the device failed.
    fn gated_linear(
        &mut self,
        x: &Self::Operand,
        gate_up: &Self::Matrix,
    ) -> Result<Self::Operand, Self::Error>;

    /// Sums `x` over the ranks of the group, in rank order.
    ///
    /// # Errors
    /// If the device or a peer failed.
    fn all_reduce(&mut self, x: Self::Tensor) -> Result<Self::Tensor, Self::Error>;

    /// Adds the products of `x` with `w` to `residual`: see [`Backend::linear`]. What the ranks have is summed
    /// up in rank order.
    ///
    /// # Errors
    /// If the device or a peer failed.
    fn linear_all_reduce_add(
        &mut self,
        residual: Self::Tensor,
        x: &Self::Operand,
        w: &Self::Matrix,
    ) -> Result<Self::Tensor, Self::Error>;

    /// The rows that the batch samples from, in the batch's order.
    ///
    /// # Errors
    /// If the device failed.
    fn sampled_rows(&mut self, x: Self::Tensor) -> Result<Self::Tensor, Self::Error>;

    /// Puts columns that are spread over the ranks side by side on rank 0: `columns[r]` are rank
    /// r's. `None` on the other ranks.
    ///
    /// # Errors
    /// If the device or a peer failed.
    fn gather_columns(
        &mut self,
        part: Self::Tensor,
        columns: &[Range<usize>],
    ) -> Result<Option<Self::Tensor>, Self::Error>;

    /// Of `x * transpose(w)`, whose columns are spread over the ranks as in
    /// [`Backend::gather_columns`]: for every row the number of its greatest column, the lowest of equal
    /// ones, appended to `into` on rank 0. NaN counts as negative infinity; 0 for a row of nothing else.
    ///
    /// # Errors
    /// If the device or a peer failed.
    fn best_columns(
        &mut self,
        x: &Self::Operand,
        w: &Self::Matrix,
        columns: &[Range<usize>],
        into: &mut Vec<u32>,
    ) -> Result<(), Self::Error>;

    /// Waits for a tensor and reads it, row-major.
    ///
    /// # Errors
    /// If the device failed.
    fn read<'a>(&'a mut self, x: &'a Self::Tensor) -> Result<&'a [f32], Self::Error>;
}

/// The attention heads of one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadShard {
    /// Query heads, numbered as in the whole model.
    pub query_heads: Range<usize>,
    /// KV heads that those read, numbered as in the whole model. A KV head may be on several ranks.
    pub kv_heads: Range<usize>,
    /// Query heads that share one KV head.
    pub queries_per_kv: usize,
    /// Elements of one head.
    pub head_dim: usize,
}

/// Rotary position embedding (Su et al., 2021): the elements of pair i of a head turn by
/// `position / theta^(2i / dims)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// Elements of a head that rotate, from its first.
    pub dims: usize,
    /// Which elements turn together.
    pub pairs: RopePairs,
}

/// Which elements of a head make pair i of a rotary embedding over `dims` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1. GGUF files of the llama architecture store query and key rows so that this form
    /// is the right one.
    Neighbours,
    /// i and i + dims / 2, as the other architectures have it.
    Halves,
}
