//! How large the cache of keys and values is, and how it stores them.

use std::fmt;

/// The size of one rank's cache of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers that this rank holds.
    pub layers: usize,
    /// KV heads that this rank holds.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Blocks in the cache.
    pub blocks: usize,
    /// Tokens in one block, a power of two.
    pub tokens_per_block: usize,
    /// How keys and values are stored.
    pub dtype: CacheType,
}

/// How keys and values are stored; they are computed in float32, or in bfloat16 where they are stored so
/// and the processor multiplies such. Rounding is to the nearest, halves to even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// As they are.
    F32,
    /// The upper half of a float32, rounded.
    Bf16,
    /// IEEE halves: what is 65520 or more in magnitude becomes infinite.
    F16,
    /// Whole numbers from -127 to 127 with one float32 scale for each token's key, and one for its
    /// value, in each head.
    Int8,
}

impl CacheShape {
    /// Bytes of all keys and values with their scales; `None` on overflow. A device whose kernels
    /// want more tokens in a block, or more elements in a head, takes what fills those up besides.
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        let vector = self.head_dim.checked_mul(self.dtype.element_bytes())?;
        let vector = vector.checked_add(self.dtype.scale_bytes())?;
        [self.layers, self.kv_heads, self.blocks, self.tokens_per_block, vector]
            .iter()
            .try_fold(2usize, |bytes, &factor| bytes.checked_mul(factor))
    }
}

impl CacheType {
    /// All of them, the most exact first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// Its name in a deployment file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of one element of a key or value.
    #[must_use]
    pub fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Bytes of what the elements of one key or value have in common.
    #[must_use]
    pub fn scale_bytes(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => 0,
            Self::Int8 => size_of::<f32>(),
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_all_elements_and_scales() {
        let bytes = |dtype| {
            CacheShape {
                layers: 30,
                kv_heads: 3,
                head_dim: 64,
                blocks: 10,
                tokens_per_block: 16,
                dtype,
            }
            .bytes()
        };
        // Keys and values of 160 tokens in 90 heads.
        let vectors = 2 * 160 * 90;
        assert_eq!(bytes(CacheType::F32), Some(vectors * 256));
        assert_eq!(bytes(CacheType::Bf16), Some(vectors * 128));
        assert_eq!(bytes(CacheType::F16), Some(vectors * 128));
        assert_eq!(bytes(CacheType::Int8), Some(vectors * 68));
    }

    #[test]
    fn a_size_beyond_counting_is_none() {
        for dtype in CacheType::ALL {
            for (head_dim, blocks) in [(usize::MAX, 1), (64, usize::MAX)] {
                let shape = CacheShape {
                    layers: 1,
                    kv_heads: 1,
                    head_dim,
                    blocks,
                    tokens_per_block: 16,
                    dtype,
                };
                assert_eq!(shape.bytes(), None);
            }
        }
    }
}
