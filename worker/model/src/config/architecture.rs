//! The architectures that are run, and how they differ.

use crate::RopePairs;

/// What `general.architecture` may be, which is also how the keys of its dimensions begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama (Touvron et al., 2023): SmolLM2 among others.
    Llama,
    /// Qwen2 (Yang et al., 2024), Qwen2.5 included: queries, keys and values have biases.
    Qwen2,
}

impl Architecture {
    /// How an error lists them.
    pub(super) const KNOWN: &str = "\"llama\" and \"qwen2\"";

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Llama, Self::Qwen2].into_iter().find(|architecture| architecture.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }

    /// How GGUF stores the rows of queries and keys: llama's are reordered when a file is made.
    pub(super) fn rope_pairs(self) -> RopePairs {
        match self {
            Self::Llama => RopePairs::Neighbours,
            Self::Qwen2 => RopePairs::Halves,
        }
    }

    pub(super) fn qkv_bias(self) -> bool {
        self == Self::Qwen2
    }
}
