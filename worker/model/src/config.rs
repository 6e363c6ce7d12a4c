//! The dimensions of a model, read from its file and checked.

mod architecture;
mod read;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::num::NonZeroUsize;

use shardrun_files::FileError;
use thiserror::Error;

use crate::Rope;
use architecture::Architecture;

/// Dimensions and constants of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Transformer layers.
    pub layers: usize,
    /// Elements of a token's residual stream.
    pub hidden: usize,
    /// Elements between the two halves of the gated MLP.
    pub ffn: usize,
    /// Query heads.
    pub query_heads: usize,
    /// Key and value heads; query heads are a multiple.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Longest sequence the model was trained for, in tokens.
    pub context_len: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// The rotary embedding.
    pub rope: Rope,
    /// How many tokens back attention sees, the own one included: repeated over the layers, `None` for
    /// all. Empty for all in every layer.
    pub attention_windows: Vec<Option<NonZeroUsize>>,
}

/// A model file whose dimensions don't make a model that can be run.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another architecture.
    #[error(
        "{file}: general.architecture is {architecture:?}; this version runs {}",
        Architecture::KNOWN
    )]
    Architecture {
        /// The file.
        file: String,
        /// What it says.
        architecture: String,
    },
    /// A value outside what works.
    #[error("{file}: {key} is {value}; {allowed}")]
    Value {
        /// The file.
        file: String,
        /// Which key.
        key: String,
        /// Its value.
        value: String,
        /// What would do.
        allowed: String,
    },
}

impl ModelConfig {
    /// How many tokens back the attention of `layer` sees; `None` for all.
    #[must_use]
    pub fn attention_window(&self, layer: usize) -> Option<NonZeroUsize> {
        let windows = &self.attention_windows;
        windows.get(layer.checked_rem(windows.len())?).copied().flatten()
    }

    /// The positions that some layer still sees from the next one; `None` for all.
    #[must_use]
    pub fn widest_attention_window(&self) -> Option<NonZeroUsize> {
        let widest = (0..self.layers).map(|layer| self.attention_window(layer)).max_by_key(|w| {
            // No window is the widest.
            w.map_or(usize::MAX, NonZeroUsize::get)
        });
        widest.flatten()
    }
}
