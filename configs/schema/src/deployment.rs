//! A deployment with every value settled and checked.
//!
//! Field names are the keys of the file, units included; [`crate::keys::KEYS`] has their ranges,
//! defaults and meaning.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ModelSource, Sha256, ShmPrefix};

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
    /// Most sequences in one iteration.
    pub max_batch_size: usize,
    /// Most tokens in one iteration.
    pub max_num_tokens: usize,
    /// Most requests that wait.
    pub max_queue_size: usize,
    /// Most tokens of a sequence, prompt included; `None` for the model's own context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<usize>,
}

/// The paged KV cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvCache {
    /// Tokens that the whole cache holds; rounded down to whole blocks.
    pub max_tokens: usize,
    /// Tokens of a block, a power of two.
    pub tokens_per_block: usize,
}

impl KvCache {
    /// Whole blocks in the cache; at least one.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.max_tokens / self.tokens_per_block
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

/// An enum whose variants are written as words, with the list of those words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words, as a deployment file writes them.
            pub const WORDS: &[&str] = &[$($word),+];

            /// This one's word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// Which backend computes.
    Device {
        /// The fastest that is there.
        Auto = "auto",
        /// The CPU.
        Cpu = "cpu",
    }
}

words! {
    /// Which kernels the CPU backend uses.
    Isa {
        /// The widest that the processor has.
        Auto = "auto",
        /// Portable code, the reference.
        Scalar = "scalar",
        /// 256-bit vectors.
        Avx2 = "avx2",
        /// 512-bit vectors.
        Avx512 = "avx512",
    }
}

words! {
    /// What carries the collectives.
    Collectives {
        /// Shared memory where all ranks are on one node, else MPI.
        Auto = "auto",
        /// Shared memory.
        Shm = "shm",
        /// MPI.
        Mpi = "mpi",
    }
}

words! {
    /// The least severe messages that are logged.
    LogLevel {
        /// Failures.
        Error = "error",
        /// And what may lead to them.
        Warn = "warn",
        /// And what happens.
        Info = "info",
        /// And what is decided.
        Debug = "debug",
        /// And every step.
        Trace = "trace",
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
}
