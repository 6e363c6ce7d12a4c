//! A model's dimensions from the metadata of its file.

use shardrun_files::{Gguf, Value};

use super::{Architecture, ConfigError, ModelConfig};
use crate::Rope;

/// Most elements of a head.
const MOST_HEAD_DIM: usize = 1 << 10;
/// Most tokens of a vocabulary.
const MOST_TOKENS: usize = 1 << 24;

/// Keys of what no architecture here computes, with the values that ask for nothing.
const FOREIGN: &[(&str, &[f64])] = &[
    ("attention.scale", &[0.0]),
    ("expert_count", &[0.0]),
    ("rope.scale_linear", &[0.0, 1.0]),
    ("rope.scaling.attn_factor", &[1.0]),
    ("rope.scaling.factor", &[0.0, 1.0]),
];

impl ModelConfig {
    /// Reads the dimensions of a model.
    ///
    /// # Errors
    /// [`ConfigError`] for another architecture, a missing key, dimensions that don't fit each other,
    /// or something that is not computed here.
    pub fn from_gguf(file: &Gguf) -> Result<Self, ConfigError> {
        let name = file.require_str("general.architecture")?;
        let architecture = Architecture::named(name).ok_or_else(|| ConfigError::Architecture {
            file: file.path().display().to_string(),
            architecture: name.to_owned(),
        })?;
        let keys = Keys { file, architecture };
        let hidden = keys.dimension("embedding_length", 1 << 17)?;
        let query_heads = keys.dimension("attention.head_count", 1 << 12)?;
        let head_dim = keys.head_dim(hidden, query_heads)?;
        let context_len = keys.dimension("context_length", 1 << 24)?;
        keys.check_foreign(context_len)?;
        Ok(Self {
            layers: keys.dimension("block_count", 1 << 10)?,
            hidden,
            ffn: keys.dimension("feed_forward_length", 1 << 20)?,
            query_heads,
            kv_heads: keys.kv_heads(query_heads)?,
            head_dim,
            context_len,
            vocab: keys.vocab()?,
            norm_epsilon: keys.norm_epsilon()?,
            qkv_bias: architecture.qkv_bias(),
            rope: keys.rope(head_dim)?,
            attention_windows: Vec::new(),
        })
    }
}

/// The keys of one architecture, by what follows its name in them.
struct Keys<'a> {
    file: &'a Gguf,
    architecture: Architecture,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name())
    }

    fn refuse(&self, key: String, value: impl ToString, allowed: impl ToString) -> ConfigError {
        let file = self.file.path().display().to_string();
        ConfigError::Value { file, key, value: value.to_string(), allowed: allowed.to_string() }
    }

    /// A number from 1 to `limit`.
    fn dimension(&self, name: &str, limit: usize) -> Result<usize, ConfigError> {
        let key = self.key(name);
        let value = self.file.require_u32(&key)? as usize;
        if value == 0 || value > limit {
            return Err(self.refuse(key, value, format!("1 to {limit} can be run")));
        }
        Ok(value)
    }

    fn optional_dimension(&self, name: &str, limit: usize) -> Result<Option<usize>, ConfigError> {
        let there = self.file.metadata(&self.key(name)).is_some();
        there.then(|| self.dimension(name, limit)).transpose()
    }

    fn kv_heads(&self, query_heads: usize) -> Result<usize, ConfigError> {
        const NAME: &str = "attention.head_count_kv";
        let kv_heads = self.optional_dimension(NAME, query_heads)?.unwrap_or(query_heads);
        if !query_heads.is_multiple_of(kv_heads) {
            let allowed = format!("it must divide the {query_heads} query heads");
            return Err(self.refuse(self.key(NAME), kv_heads, allowed));
        }
        Ok(kv_heads)
    }

    /// Rows of the table of tokens.
    fn vocab(&self) -> Result<usize, ConfigError> {
        const TABLE: &str = "token_embd.weight";
        let rows = self.file.matrix(TABLE)?.rows();
        if rows > MOST_TOKENS {
            let allowed = format!("up to {MOST_TOKENS} can be run");
            return Err(self.refuse(format!("rows of {TABLE}"), rows, allowed));
        }
        Ok(rows)
    }

    fn head_dim(&self, hidden: usize, query_heads: usize) -> Result<usize, ConfigError> {
        let key_length = self.optional_dimension("attention.key_length", MOST_HEAD_DIM)?;
        if key_length.is_none() && !hidden.is_multiple_of(query_heads) {
            let allowed = format!("it must divide the {hidden} elements of a token");
            return Err(self.refuse(self.key("attention.head_count"), query_heads, allowed));
        }
        let head_dim = key_length.unwrap_or(hidden / query_heads);
        if head_dim > MOST_HEAD_DIM {
            let allowed = format!("heads of up to {MOST_HEAD_DIM} elements can be run");
            return Err(self.refuse(self.key("embedding_length"), hidden, allowed));
        }
        let value_len = self.optional_dimension("attention.value_length", MOST_HEAD_DIM)?;
        if let Some(value_len) = value_len.filter(|&len| len != head_dim) {
            let allowed = format!("heads of keys and values must both have {head_dim} elements");
            return Err(self.refuse(self.key("attention.value_length"), value_len, allowed));
        }
        Ok(head_dim)
    }

    fn rope(&self, head_dim: usize) -> Result<Rope, ConfigError> {
        let key = self.key("rope.dimension_count");
        let dims = self.file.optional_u32(&key)?.map_or(head_dim, |n| n as usize);
        if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) {
            let allowed =
                format!("an even number up to the {head_dim} elements of a head can be run");
            return Err(self.refuse(key, dims, allowed));
        }
        let key = self.key("rope.freq_base");
        let theta = self.file.optional_f32(&key)?.unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(self.refuse(key, theta, "it must be positive"));
        }
        Ok(Rope { theta, dims, pairs: self.architecture.rope_pairs() })
    }

    fn norm_epsilon(&self) -> Result<f32, ConfigError> {
        let key = self.key("attention.layer_norm_rms_epsilon");
        let epsilon = self.file.require_f32(&key)?;
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(self.refuse(key, epsilon, "it must be positive or zero"));
        }
        Ok(epsilon)
    }

    /// Refuses what the file asks for and nobody would compute.
    fn check_foreign(&self, context_len: usize) -> Result<(), ConfigError> {
        const NO_SCALING: &str = "this version runs models without rope scaling";
        let key = self.key("rope.scaling.type");
        let scaling = self.file.optional_str(&key)?;
        if let Some(scaling) = scaling.filter(|&scaling| scaling != "none") {
            return Err(self.refuse(key, format!("{scaling:?}"), NO_SCALING));
        }
        if self.file.has_tensor("rope_freqs.weight") {
            return Err(self.refuse("rope_freqs.weight".to_owned(), "there", NO_SCALING));
        }
        for (name, neutral) in FOREIGN {
            let key = self.key(name);
            let Some(value) = self.file.metadata(&key) else { continue };
            if !number(value).is_some_and(|number| neutral.contains(&number)) {
                let value = number(value).map_or(value.type_name().to_owned(), |n| n.to_string());
                let allowed = format!("this version runs models where it is {}", neutral[0]);
                return Err(self.refuse(key, value, allowed));
            }
        }
        let key = self.key("attention.causal");
        if self.file.optional_bool(&key)? == Some(false) {
            return Err(self.refuse(key, false, "this version runs models that generate text"));
        }
        let key = self.key("attention.sliding_window");
        let window = self.file.optional_u32(&key)?.map_or(0, |window| window as usize);
        if (1..context_len).contains(&window) {
            let allowed = format!("this version runs models that see all {context_len} tokens");
            return Err(self.refuse(key, window, allowed));
        }
        Ok(())
    }
}

/// A number of any type.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        other => other.integer().map(|number| number as f64),
    }
}
