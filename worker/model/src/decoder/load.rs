//! Bringing a rank's share of a file's tensors to its device.

use std::{collections::BTreeSet, ops::Range};

use shardrun_files::{FileError, Gguf, MatrixView, Misaligned};
use thiserror::Error;

use super::{Decoder, Layer};
use crate::{Backend, ModelConfig, Shard};

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
    /// A tensor that this crate would leave out of the computation.
    #[error("{file}: tensor {tensor} is not part of the models that this version runs")]
    Foreign {
        /// The file.
        file: String,
        /// Which tensor, the first by name.
        tensor: String,
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

impl<B: Backend> Decoder<B> {
    /// Packs this rank's share of every tensor. Calls `progress` after each layer with the number
    /// of layers done.
    ///
    /// # Errors
    /// [`LoadError`] names the tensor that is missing, misshapen, unknown, or more than the device
    /// holds.
    pub fn load(
        backend: &mut B,
        file: &Gguf,
        config: ModelConfig,
        shard: Shard,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, LoadError<B::Error>> {
        let mut loader = Loader { backend, file, asked: BTreeSet::new() };
        let hidden = config.hidden;
        let vocab = shard.own_vocab();
        let tokens = loader.matrix("token_embd.weight", config.vocab, hidden)?;
        let embedding = loader.pack("token_embd.weight", &[tokens.rows_in(vocab.clone())])?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            layers.push(loader.layer(index, &config, &shard)?);
            progress(index + 1);
        }
        let norm = loader.vector("output_norm.weight", hidden)?;
        let head = if file.has_tensor("output.weight") {
            let head = loader.matrix("output.weight", config.vocab, hidden)?;
            Some(loader.pack("output.weight", &[head.rows_in(vocab)])?)
        } else {
            None
        };
        loader.check_all_asked_for()?;
        Ok(Self { config, shard, embedding, layers, norm, head })
    }
}

struct Loader<'a, B: Backend> {
    backend: &'a mut B,
    file: &'a Gguf,
    /// The tensors that the model is made of.
    asked: BTreeSet<String>,
}

impl<'a, B: Backend> Loader<'a, B> {
    fn layer(
        &mut self,
        index: usize,
        config: &ModelConfig,
        shard: &Shard,
    ) -> Result<Layer<B>, LoadError<B::Error>> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let ModelConfig { hidden, ffn, head_dim, query_heads, kv_heads, .. } = *config;
        let queries = scaled(&shard.heads.query_heads, head_dim);
        let kv = scaled(&shard.heads.kv_heads, head_dim);

        let q = self.matrix(&name("attn_q"), query_heads * head_dim, hidden)?;
        let k = self.matrix(&name("attn_k"), kv_heads * head_dim, hidden)?;
        let v = self.matrix(&name("attn_v"), kv_heads * head_dim, hidden)?;
        let qkv = [q.rows_in(queries.clone()), k.rows_in(kv.clone()), v.rows_in(kv.clone())];
        let qkv_bias = if config.qkv_bias {
            let name = |part: &str| format!("blk.{index}.{part}.bias");
            let q = self.floats(&name("attn_q"), query_heads * head_dim)?;
            let k = self.floats(&name("attn_k"), kv_heads * head_dim)?;
            let v = self.floats(&name("attn_v"), kv_heads * head_dim)?;
            let own = [&q[queries.clone()], &k[kv.clone()], &v[kv]].concat();
            Some(self.upload(&name("attn_qkv"), &own)?)
        } else {
            None
        };
        let output = name("attn_output");
        let o = self.matrix(&output, hidden, query_heads * head_dim)?;
        let o = o.columns_in(queries).map_err(|cut| LoadError::cut(&output, cut))?;

        let gate = self.matrix(&name("ffn_gate"), ffn, hidden)?;
        let up = self.matrix(&name("ffn_up"), ffn, hidden)?;
        let gate_up = [gate.rows_in(shard.ffn.clone()), up.rows_in(shard.ffn.clone())];
        let down = name("ffn_down");
        let d = self.matrix(&down, hidden, ffn)?;
        let d = d.columns_in(shard.ffn.clone()).map_err(|cut| LoadError::cut(&down, cut))?;

        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm"), hidden)?,
            qkv: self.pack(&name("attn_qkv"), &qkv)?,
            qkv_bias,
            attention_output: self.pack(&output, &[o])?,
            mlp_norm: self.vector(&name("ffn_norm"), hidden)?,
            gate_up: self.pack(&name("ffn_gate_up"), &gate_up)?,
            down: self.pack(&down, &[d])?,
        })
    }

    fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<MatrixView<'a>, LoadError<B::Error>> {
        self.asked.insert(name.to_owned());
        let matrix = self.file.matrix(name)?;
        if (matrix.rows(), matrix.columns()) == (rows, columns) {
            return Ok(matrix);
        }
        let got = format!("{} x {}", matrix.rows(), matrix.columns());
        Err(self.misshapen(name, got, format!("{rows} x {columns}")))
    }

    fn floats(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError<B::Error>> {
        self.asked.insert(name.to_owned());
        let values = self.file.vector(name)?;
        if values.len() == len {
            return Ok(values);
        }
        Err(self.misshapen(name, values.len().to_string(), len.to_string()))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<B::Vector, LoadError<B::Error>> {
        let values = self.floats(name, len)?;
        self.upload(name, &values)
    }

    fn upload(&mut self, name: &str, values: &[f32]) -> Result<B::Vector, LoadError<B::Error>> {
        self.backend
            .vector(values)
            .map_err(|source| LoadError::Device { tensor: name.to_owned(), source })
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

    /// A norm, a bias or an expert that the file has and nothing here computes would go unnoticed but
    /// for the text that comes out.
    fn check_all_asked_for(&self) -> Result<(), LoadError<B::Error>> {
        match self.file.tensors().find(|(name, _)| !self.asked.contains(*name)) {
            None => Ok(()),
            Some((tensor, _)) => Err(LoadError::Foreign {
                file: self.file.path().display().to_string(),
                tensor: tensor.to_owned(),
            }),
        }
    }

    fn misshapen(&self, tensor: &str, got: String, expected: String) -> LoadError<B::Error> {
        let file = self.file.path().display().to_string();
        LoadError::Shape { file, tensor: tensor.to_owned(), got, expected }
    }
}

impl<E: std::error::Error + 'static> LoadError<E> {
    fn cut(tensor: &str, source: Misaligned) -> Self {
        Self::Cut { tensor: tensor.to_owned(), source }
    }
}

/// The elements of a range of heads.
fn scaled(heads: &Range<usize>, head_dim: usize) -> Range<usize> {
    heads.start * head_dim..heads.end * head_dim
}
