//! A deployment with every value settled and checked.
//!
//! Field names are the keys of the file, units included; [`crate::keys::KEYS`] has their ranges,
//! defaults and meaning.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BatchSchedulerPolicy, Collectives, ContextChunkingPolicy, Device, Isa, KvCacheDtype, LogLevel,
    ModelSource, Sha256, ShmPrefix,
};

/// What is served, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The deployment's name; run directories begin with it.
    pub name: String,
    /// The model and how it is run.
    pub model: Model,
    /// The paged KV cache.
    pub kv_cache: KvCache,
    /// Addresses and limits of the HTTP server.
    pub server: Server,
    /// Where a run keeps its files, and what its shared memory is called.
    pub run: Run,
    /// Heartbeats and deadlines.
    pub supervision: Supervision,
    /// What is kept about past iterations.
    pub metrics: Metrics,
}

/// The model and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The model's file; a path is absolute once loaded from a file or a flag.
    pub source: ModelSource,
    /// Digest of the file; always there for a `pypi:` source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Ranks that share every layer.
    pub tp_size: usize,
    /// Compute threads of a rank.
    pub threads: Threads,
    /// Which backend computes.
    pub device: Device,
    /// Which kernels the CPU backend uses.
    pub isa: Isa,
    /// What carries the collectives.
    pub collectives: Collectives,
    /// Which requests an iteration may have.
    pub batch_scheduler_policy: BatchSchedulerPolicy,
    /// How prompts share an iteration that cannot take all of them.
    pub context_chunking_policy: ContextChunkingPolicy,
    /// Most sequences in one iteration.
    pub max_batch_size: usize,
    /// Most beams of one request; at most `max_batch_size`.
    pub max_beam_width: usize,
    /// Most tokens in one iteration.
    pub max_num_tokens: usize,
    /// Most requests that wait.
    pub max_queue_size: usize,
    /// Longest wait of a request before it starts; `None` for as long as it takes.
    #[serde(rename = "queue_timeout_ms", with = "milliseconds::or_none")]
    pub queue_timeout: Option<Duration>,
    /// Longest life of a request that names no timeout itself; `None` for as long as it takes.
    #[serde(rename = "request_timeout_ms", with = "milliseconds::or_none")]
    pub request_timeout: Option<Duration>,
    /// Most tokens of a sequence, prompt included; `None` for the model's own context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<usize>,
    /// Most rows of logits that one request may ask for, of its prompt and all its sequences.
    pub max_logits_rows: usize,
}

/// The paged KV cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvCache {
    /// Tokens that the whole cache holds; rounded down to whole blocks.
    pub max_tokens: usize,
    /// Tokens of a block, a power of two.
    pub tokens_per_block: usize,
    /// What keys and values are stored as.
    pub dtype: KvCacheDtype,
    /// Whether a prompt takes blocks that an earlier request filled with the same tokens.
    pub enable_block_reuse: bool,
    /// Whether it also takes the part of a block that begins with the same tokens.
    pub enable_partial_reuse: bool,
    /// Most events about blocks that wait to be read; 0 for none.
    pub event_buffer_max_size: usize,
    /// Tokens that a layer looks back, repeated over the layers; empty for all tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub max_attention_window: Vec<usize>,
}

impl KvCache {
    /// Whole blocks in the cache; at least one.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.max_tokens / self.tokens_per_block
    }

    /// Tokens that `layer` looks back, its own included; `None` for all of them.
    #[must_use]
    pub fn attention_window(&self, layer: usize) -> Option<usize> {
        let windows = &self.max_attention_window;
        // No windows are repeated over no layers.
        let place = layer.checked_rem(windows.len())?;
        Some(windows[place])
    }
}

/// Addresses and limits of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The address to listen on; beyond loopback only if `allow_remote`.
    pub host: IpAddr,
    /// Whether `host` may be beyond loopback.
    pub allow_remote: bool,
    /// Port of the API; 0 for any free one.
    pub http_port: u16,
    /// Port of `/metrics`; 0 for any free one.
    pub metrics_port: u16,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
}

/// Where a run keeps its files, and what its shared memory is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Folder in which run directories are made.
    pub dir: PathBuf,
    /// Folder of the ranks' logs; `None` until a run has a directory, then `logs` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_dir: Option<PathBuf>,
    /// The least severe messages that are logged.
    pub log_level: LogLevel,
    /// What shared-memory names begin with; `None` until a run has an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_prefix: Option<ShmPrefix>,
}

/// Heartbeats and deadlines. Each field's key ends in `_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervision {
    /// Time between a rank's heartbeats.
    #[serde(rename = "heartbeat_ms", with = "milliseconds")]
    pub heartbeat: Duration,
    /// Silence after which a rank counts as lost; at least three heartbeats.
    #[serde(rename = "heartbeat_timeout_ms", with = "milliseconds")]
    pub heartbeat_timeout: Duration,
    /// Time that running requests get to finish at a stop.
    #[serde(rename = "drain_timeout_ms", with = "milliseconds")]
    pub drain_timeout: Duration,
    /// Longest wait for a peer in a collective.
    #[serde(rename = "collective_timeout_ms", with = "milliseconds")]
    pub collective_timeout: Duration,
}

/// What is kept about past iterations until somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Most iterations whose statistics are kept; 0 for none.
    pub iter_stats_max_iterations: usize,
    /// Of those, how many of the latest tell of each request, too; 0 for none.
    pub request_stats_max_iterations: usize,
}

/// Compute threads of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "ThreadsForm", try_from = "ThreadsForm")]
pub enum Threads {
    /// The node's cores shared evenly by its ranks, at least one each.
    Auto,
    /// This many; at least one.
    Fixed(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ThreadsForm {
    Fixed(usize),
    Word(String),
}

impl From<Threads> for ThreadsForm {
    fn from(threads: Threads) -> Self {
        match threads {
            Threads::Auto => Self::Word("auto".to_owned()),
            Threads::Fixed(count) => Self::Fixed(count),
        }
    }
}

impl TryFrom<ThreadsForm> for Threads {
    type Error = &'static str;

    fn try_from(form: ThreadsForm) -> Result<Self, Self::Error> {
        match form {
            ThreadsForm::Fixed(count) if count > 0 => Ok(Self::Fixed(count)),
            ThreadsForm::Word(word) if word == "auto" => Ok(Self::Auto),
            _ => Err("auto or a number of threads"),
        }
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let ms = u64::try_from(time.as_millis()).map_err(serde::ser::Error::custom)?;
        to.serialize_u64(ms)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }

    /// The same with 0 for `None`.
    pub(super) mod or_none {
        use super::{Deserializer, Duration, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<Duration>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            super::serialize(&time.unwrap_or_default(), to)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Duration>, D::Error> {
            super::deserialize(from).map(|time| (!time.is_zero()).then_some(time))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_repeated_over_layers() {
        let with = |line: &str| {
            let text = format!("name = \"x\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{line}");
            Deployment::from_resolved_toml(&text).unwrap().kv_cache
        };
        let windows = |cache: &KvCache| (0..4).map(|layer| cache.attention_window(layer)).collect();
        let all: Vec<_> = windows(&with(""));
        assert_eq!(all, [None; 4]);
        let alternate: Vec<_> = windows(&with("kv_cache.max_attention_window = [512, 64]"));
        assert_eq!(alternate, [Some(512), Some(64), Some(512), Some(64)]);
        let same: Vec<_> = windows(&with("kv_cache.max_attention_window = 64"));
        assert_eq!(same, [Some(64); 4]);
    }
}
