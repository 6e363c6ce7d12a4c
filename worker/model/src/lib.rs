//! Model architectures, how they are cut into shards, and the [`Backend`] that they are written in.
//!
//! An architecture here knows tensors by name and mathematics by operation; it knows no device, no
//! process group and no scheduler.

mod backend;
mod batch;
mod cache;
mod config;
mod decoder;
mod shard;

pub use backend::{Backend, HeadShard, Rope, RopePairs};
pub use batch::{Batch, BlockCopy, Span};
pub use cache::{CacheShape, CacheType};
pub use config::{ConfigError, ModelConfig};
pub use decoder::{Decoder, LoadError};
pub use shard::{Shard, ShardError};
