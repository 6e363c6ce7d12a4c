//! The llama architecture (Touvron et al., 2023): SmolLM2 and its relatives.

#[cfg(test)]
mod tests;

use shardrun_files::{FileError, Gguf, MatrixView, Misaligned};
use thiserror::Error;

use crate::{Backend, Batch, ModelConfig, Shard};

/// One rank's share of a llama model on the device of `B`.
pub struct Llama<B: Backend> {
    config: ModelConfig,
    shard: Shard,
    embedding: B::Matrix,
    layers: Vec<Layer<B>>,
    norm: B::Vector,
    /// `None` if the embedding serves as head too.
    head: Option<B::Matrix>,
}

struct Layer<B: Backend> {
    attention_norm: B::Vector,
    /// Queries, keys and values of this rank's heads, stacked.
    qkv: B::Matrix,
    attention_output: B::Matrix,
    mlp_norm: B::Vector,
    /// Gate and up of this rank's columns, stacked.
    gate_up: B::Matrix,
    down: B::Matrix,
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// A tensor is missing or unreadable.
    #[error(transparent)]
    File(#[from] FileError),
    /// A tensor has other dimensions than the model's.
    #[error("{file}: tensor {tensor} is {got}, and the model's dimensions ask for {expected}")]
    Shape {
        /// The file.
        file: String,
        /// Which tensor.
        tensor: String,
        /// Its dimensions.
        got: String,
        /// What they should be.
        expected: String,
    },
    /// A shard would cut through a block of quantised weights.
    #[error("tensor {tensor} can't be cut for this model.tp_size: {source}")]
    Cut {
        /// Which tensor.
        tensor: String,
        /// Where the cut would be.
        source: Misaligned,
    },
    /// The device refused.
    #[error("tensor {tensor}: {source}")]
    Device {
        /// Which tensor.
        tensor: String,
        /// The device's reason.
        source: E,
    },
}

impl<B: Backend> Llama<B> {
    /// Packs this rank's share of every tensor. Calls `progress` after each layer with the number
    /// of layers done.
    ///
    /// # Errors
    /// [`LoadError`] names the tensor that is missing, misshapen, or more than the device holds.
    pub fn load(
        backend: &mut B,
        file: &Gguf,
        config: ModelConfig,
        shard: Shard,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, LoadError<B::Error>> {
        let mut loader = Loader { backend, file };
        let (hidden, head_dim) = (config.hidden, config.head_dim);
        let query = scaled(&shard.heads.query_heads, head_dim);
        let kv = scaled(&shard.heads.kv_heads, head_dim);
        let vocab = shard.own_vocab();

        let tokens = loader.matrix("token_embd.weight", config.vocab, hidden)?;
        let embedding = loader.pack("token_embd.weight", &[tokens.rows_in(vocab.clone())])?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = |part: &str| format!("blk.{index}.{part}.weight");
            let q = loader.matrix(&name("attn_q"), config.query_heads * head_dim, hidden)?;
            let k = loader.matrix(&name("attn_k"), config.kv_heads * head_dim, hidden)?;
            let v = loader.matrix(&name("attn_v"), config.kv_heads * head_dim, hidden)?;
            let qkv = [q.rows_in(query.clone()), k.rows_in(kv.clone()), v.rows_in(kv.clone())];
            let output = name("attn_output");
            let o = loader.matrix(&output, hidden, config.query_heads * head_dim)?;
            let o = o.columns_in(query.clone()).map_err(|cut| LoadError::cut(&output, cut))?;
            let gate = loader.matrix(&name("ffn_gate"), config.ffn, hidden)?;
            let up = loader.matrix(&name("ffn_up"), config.ffn, hidden)?;
            let gate_up = [gate.rows_in(shard.ffn.clone()), up.rows_in(shard.ffn.clone())];
            let down = name("ffn_down");
            let d = loader.matrix(&down, hidden, config.ffn)?;
            let d = d.columns_in(shard.ffn.clone()).map_err(|cut| LoadError::cut(&down, cut))?;
            layers.push(Layer {
                attention_norm: loader.vector(&name("attn_norm"), hidden)?,
                qkv: loader.pack(&name("attn_qkv"), &qkv)?,
                attention_output: loader.pack(&output, &[o])?,
                mlp_norm: loader.vector(&name("ffn_norm"), hidden)?,
                gate_up: loader.pack(&name("ffn_gate_up"), &gate_up)?,
                down: loader.pack(&down, &[d])?,
            });
            progress(index + 1);
        }
        let norm = loader.vector("output_norm.weight", hidden)?;
        let head = if file.has_tensor("output.weight") {
            let head = loader.matrix("output.weight", config.vocab, hidden)?;
            Some(loader.pack("output.weight", &[head.rows_in(vocab)])?)
        } else {
            None
        };
        Ok(Self { config, shard, embedding, layers, norm, head })
    }

    /// The dimensions of the whole model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// This rank's share of it.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Runs one iteration: stores the keys and values of the batch's tokens in the cache and gives,
    /// on rank 0, the logits `[sampled rows, vocabulary]`; `None` on other ranks or if no row is
    /// sampled. Collective: every rank runs the same batches in the same order.
    ///
    /// # Errors
    /// If the device or a peer failed.
    pub fn forward(&self, backend: &mut B, batch: &Batch) -> Result<Option<B::Tensor>, B::Error> {
        let epsilon = self.config.norm_epsilon;
        backend.begin(batch)?;
        let embedded = backend.embed(&self.embedding, self.shard.own_vocab().start as u32)?;
        let mut x = backend.all_reduce(embedded)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let h = backend.rms_norm(&x, &layer.attention_norm, epsilon)?;
            let qkv = backend.linear(&h, &layer.qkv)?;
            let window = self.config.attention_window(index);
            let a = backend.attention(index, qkv, &self.shard.heads, &self.config.rope, window)?;
            let a = backend.linear(&a, &layer.attention_output)?;
            x = backend.all_reduce_add(x, a)?;

            let h = backend.rms_norm(&x, &layer.mlp_norm, epsilon)?;
            let m = backend.gated_linear(&h, &layer.gate_up)?;
            let m = backend.linear(&m, &layer.down)?;
            x = backend.all_reduce_add(x, m)?;
        }
        if batch.sampled.is_empty() {
            return Ok(None);
        }
        let x = backend.sampled_rows(x)?;
        let h = backend.rms_norm(&x, &self.norm, epsilon)?;
        let logits = backend.linear(&h, self.head.as_ref().unwrap_or(&self.embedding))?;
        backend.gather_columns(logits, &self.shard.vocab)
    }
}

/// The elements of a range of heads.
fn scaled(heads: &std::ops::Range<usize>, head_dim: usize) -> std::ops::Range<usize> {
    heads.start * head_dim..heads.end * head_dim
}

struct Loader<'a, B: Backend> {
    backend: &'a mut B,
    file: &'a Gguf,
}

impl<'a, B: Backend> Loader<'a, B> {
    fn matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<MatrixView<'a>, LoadError<B::Error>> {
        let matrix = self.file.matrix(name)?;
        if (matrix.rows(), matrix.columns()) == (rows, columns) {
            return Ok(matrix);
        }
        Err(LoadError::Shape {
            file: self.file.path().display().to_string(),
            tensor: name.to_owned(),
            got: format!("{} x {}", matrix.rows(), matrix.columns()),
            expected: format!("{rows} x {columns}"),
        })
    }

    fn pack(
        &mut self,
        name: &str,
        parts: &[MatrixView<'_>],
    ) -> Result<B::Matrix, LoadError<B::Error>> {
        self.backend
            .pack(parts)
            .map_err(|source| LoadError::Device { tensor: name.to_owned(), source })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<B::Vector, LoadError<B::Error>> {
        let values = self.file.vector(name)?;
        if values.len() != len {
            return Err(LoadError::Shape {
                file: self.file.path().display().to_string(),
                tensor: name.to_owned(),
                got: values.len().to_string(),
                expected: len.to_string(),
            });
        }
        self.backend
            .vector(&values)
            .map_err(|source| LoadError::Device { tensor: name.to_owned(), source })
    }
}

impl<E: std::error::Error + 'static> LoadError<E> {
    fn cut(tensor: &str, source: Misaligned) -> Self {
        Self::Cut { tensor: tensor.to_owned(), source }
    }
}
