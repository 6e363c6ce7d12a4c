//! The dimensions of a model, read from its file and checked.

use std::num::NonZeroUsize;

use shardrun_files::{FileError, Gguf};
use thiserror::Error;

use crate::{Rope, RopePairs};

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
    #[error("{file}: general.architecture is {architecture:?}; this version runs \"llama\"")]
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
        key: &'static str,
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

    /// Reads the dimensions of a llama model.
    ///
    /// # Errors
    /// [`ConfigError`] for another architecture, a missing key, or dimensions that don't fit
    /// each other.
    pub fn from_gguf(file: &Gguf) -> Result<Self, ConfigError> {
        let architecture = file.require_str("general.architecture")?;
        if architecture != "llama" {
            return Err(ConfigError::Architecture {
                file: file.path().display().to_string(),
                architecture: architecture.to_owned(),
            });
        }
        let refuse = |key, value: String, allowed: String| ConfigError::Value {
            file: file.path().display().to_string(),
            key,
            value,
            allowed,
        };
        let dimension = |key: &'static str, limit: usize| {
            let value = file.require_u32(key)? as usize;
            if value == 0 || value > limit {
                return Err(refuse(key, value.to_string(), format!("1 to {limit} can be run")));
            }
            Ok(value)
        };
        let layers = dimension("llama.block_count", 1 << 10)?;
        let hidden = dimension("llama.embedding_length", 1 << 17)?;
        let ffn = dimension("llama.feed_forward_length", 1 << 20)?;
        let query_heads = dimension("llama.attention.head_count", 1 << 12)?;
        let kv_heads = match file.optional_u32("llama.attention.head_count_kv")? {
            None => query_heads,
            Some(_) => dimension("llama.attention.head_count_kv", query_heads)?,
        };
        if !query_heads.is_multiple_of(kv_heads) {
            return Err(refuse(
                "llama.attention.head_count_kv",
                kv_heads.to_string(),
                format!("it must divide the {query_heads} query heads"),
            ));
        }
        let head_dim = match file.optional_u32("llama.attention.key_length")? {
            None => hidden / query_heads,
            Some(_) => dimension("llama.attention.key_length", 1 << 10)?,
        };
        if let Some(value_len) = file.optional_u32("llama.attention.value_length")?
            && value_len as usize != head_dim
        {
            return Err(refuse(
                "llama.attention.value_length",
                value_len.to_string(),
                format!("heads of keys and values must both have {head_dim} elements"),
            ));
        }
        let dims =
            file.optional_u32("llama.rope.dimension_count")?.map_or(head_dim, |n| n as usize);
        if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) {
            return Err(refuse(
                "llama.rope.dimension_count",
                dims.to_string(),
                format!("an even number up to the {head_dim} elements of a head can be run"),
            ));
        }
        let theta = file.optional_f32("llama.rope.freq_base")?.unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(refuse(
                "llama.rope.freq_base",
                theta.to_string(),
                "it must be positive".into(),
            ));
        }
        if let Some(scaling) = file.optional_str("llama.rope.scaling.type")?
            && scaling != "none"
        {
            return Err(refuse(
                "llama.rope.scaling.type",
                format!("{scaling:?}"),
                "this version runs models without rope scaling".into(),
            ));
        }
        if file.has_tensor("rope_freqs.weight") {
            return Err(refuse(
                "rope_freqs.weight",
                "there".into(),
                "this version runs models without rope scaling".into(),
            ));
        }
        let norm_epsilon = file.require_f32("llama.attention.layer_norm_rms_epsilon")?;
        if !(norm_epsilon.is_finite() && norm_epsilon >= 0.0) {
            return Err(refuse(
                "llama.attention.layer_norm_rms_epsilon",
                norm_epsilon.to_string(),
                "it must be positive or zero".into(),
            ));
        }
        Ok(Self {
            layers,
            hidden,
            ffn,
            query_heads,
            kv_heads,
            head_dim,
            context_len: dimension("llama.context_length", 1 << 24)?,
            vocab: file.matrix("token_embd.weight")?.rows(),
            norm_epsilon,
            rope: Rope { theta, dims, pairs: RopePairs::Neighbours },
            attention_windows: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of seven layers with these windows, 0 for none.
    fn model(windows: &[usize]) -> ModelConfig {
        ModelConfig {
            layers: 7,
            hidden: 8,
            ffn: 32,
            query_heads: 1,
            kv_heads: 1,
            head_dim: 8,
            context_len: 64,
            vocab: 10,
            norm_epsilon: 1e-5,
            rope: Rope { theta: 1e4, dims: 8, pairs: RopePairs::Neighbours },
            attention_windows: windows.iter().map(|&tokens| NonZeroUsize::new(tokens)).collect(),
        }
    }

    fn of_layers(windows: &[usize]) -> Vec<usize> {
        let model = model(windows);
        let window = |layer| model.attention_window(layer).map_or(0, NonZeroUsize::get);
        (0..model.layers).map(window).collect()
    }

    #[test]
    fn windows_are_repeated_over_the_layers() {
        assert_eq!(of_layers(&[]), [0; 7]);
        assert_eq!(of_layers(&[9]), [9; 7]);
        assert_eq!(of_layers(&[4, 0, 6]), [4, 0, 6, 4, 0, 6, 4]);
    }

    #[test]
    fn the_widest_window_is_that_of_a_layer_that_is_there() {
        let widest = |windows: &[usize]| model(windows).widest_attention_window();
        assert_eq!(widest(&[]), None);
        assert_eq!(widest(&[4, 6, 5]), NonZeroUsize::new(6));
        assert_eq!(widest(&[4, 0, 6]), None);
        // The eighth would be an eighth layer's.
        assert_eq!(widest(&[1, 2, 3, 4, 3, 2, 1, 0]), NonZeroUsize::new(4));
    }
}
