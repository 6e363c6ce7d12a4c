//! A deployment with every value settled and checked.
//!
//! Field names are the keys of the file, units included; [`crate::keys::KEYS`] has their ranges,
//! defaults and meaning.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kind::id_sets;
use crate::{
    Activations, AtTimeLimit, BatchSchedulerPolicy, Collectives, ContainerRuntime,
    ContextChunkingPolicy, Device, Isa, KvCacheDtype, LogLevel, Mode, ModelSource, Routing, Sha256,
    ShmPrefix, Spawner, Starter,
};

/// What is served, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The deployment's name; run directories begin with it.
    pub name: String,
    /// Never [`Mode::Auto`] once loaded.
    pub mode: Mode,
    /// The models, in the order of the file: at least one, and in leader mode exactly one, with one
    /// instance.
    #[serde(with = "by_name")]
    pub models: Vec<Model>,
    /// Addresses and limits of the HTTP server.
    pub server: Server,
    /// Where a run keeps its files, and what its shared memory is called.
    pub run: Run,
    /// How ranks are started.
    pub launch: Launch,
    /// Heartbeats and deadlines.
    pub supervision: Supervision,
    /// What is kept about past iterations.
    pub metrics: Metrics,
    /// The batch job.
    pub slurm: Slurm,
}

impl Deployment {
    /// The model of this name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// All instances, in the order of models; an instance's number is its place here.
    pub fn instances(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().flat_map(|model| std::iter::repeat_n(model, model.instances))
    }

    /// The name of an instance, `MODEL.N` with N counting the model's own; empty if there is no such.
    #[must_use]
    pub fn instance_name(&self, instance: usize) -> String {
        let numbered = self.models.iter().flat_map(|model| {
            (0..model.instances).map(move |number| format!("{}.{number}", model.name))
        });
        let mut numbered = numbered.skip(instance);
        numbered.next().unwrap_or_default()
    }

    /// What shared-memory names of an instance begin with; `None` until the run has an id.
    #[must_use]
    pub fn instance_prefix(&self, instance: usize) -> Option<String> {
        let prefix = self.run.shm_prefix.as_ref()?;
        Some(match self.mode {
            Mode::Orchestrator => prefix.of_instance(instance),
            Mode::Auto | Mode::Leader => prefix.as_str().to_owned(),
        })
    }

    /// Whether all instances are parts of one MPI world that is started as a whole.
    #[must_use]
    pub fn shares_a_world(&self) -> bool {
        self.models.iter().any(|model| !model.participant_ids.is_empty())
    }

    /// Each instance's ranks in the one world of all; none if instances have worlds of their own.
    pub fn participants(&self) -> impl Iterator<Item = &[u32]> {
        self.models.iter().flat_map(|model| model.participant_ids.0.iter().map(Vec::as_slice))
    }

    /// The instance, and the rank in it, of a rank of the one world of all; `None` for one that is in no
    /// instance.
    #[must_use]
    pub fn participant(&self, world_rank: usize) -> Option<(usize, usize)> {
        self.participants().enumerate().find_map(|(instance, ids)| {
            let place = ids.iter().position(|&id| id as usize == world_rank)?;
            Some((instance, place))
        })
    }

    /// Size of the one world of all: rank 0, which is nobody's, included.
    #[must_use]
    pub fn shared_world_size(&self) -> usize {
        self.participants().flatten().max().map_or(0, |&last| last as usize + 1)
    }

    /// Ranks of all instances.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.instances().map(|model| model.tp_size).sum()
    }
}

/// A model and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What clients call it; the deployment's name if it is the only model and has no table of its own.
    #[serde(skip)]
    pub name: String,
    /// The model's file; a path is absolute once loaded from a file or a flag.
    pub source: ModelSource,
    /// Digest of the file; always there for a `pypi:` source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Ranks that share every layer.
    pub tp_size: usize,
    /// Instances, each with ranks of its own.
    pub instances: usize,
    /// Which instance gets a request.
    pub routing: Routing,
    /// GPUs of each instance, taken in turn; empty for those of the local rank.
    #[serde(default, skip_serializing_if = "IdSets::is_empty")]
    pub gpu_device_ids: IdSets,
    /// Ranks of each instance in one world for all; empty if each has a world of its own.
    #[serde(default, skip_serializing_if = "IdSets::is_empty")]
    pub participant_ids: IdSets,
    /// Compute threads of a rank.
    pub threads: Threads,
    /// Which backend computes.
    pub device: Device,
    /// Which kernels the CPU backend uses.
    pub isa: Isa,
    /// What quantised weights are multiplied with.
    pub activations: Activations,
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
    /// Most prompt tokens of an iteration in which sequences generate; `Auto` as measured iterations
    /// suggest.
    pub prefill_budget: AutoOr,
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
    /// The paged KV cache.
    pub kv_cache: KvCache,
}

/// Sets of ids, as in `0,1;2,3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdSets(pub Vec<Vec<u32>>);

impl IdSets {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set of an instance: they are taken in turn.
    #[must_use]
    pub fn of(&self, instance: usize) -> Option<&[u32]> {
        let place = instance.checked_rem(self.0.len())?;
        Some(&self.0[place])
    }
}

impl TryFrom<String> for IdSets {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        id_sets(&text).map(Self).ok_or("sets of ids, as in 0,1;2,3")
    }
}

impl From<IdSets> for String {
    fn from(IdSets(sets): IdSets) -> Self {
        let set =
            |set: &Vec<u32>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        sets.iter().map(set).collect::<Vec<_>>().join(";")
    }
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

/// How ranks are started, and on which nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// What starts ranks.
    pub starter: Starter,
    /// How orchestrator mode starts an instance.
    pub spawner: Spawner,
    /// Nodes for mpirun, each `host` or `host:slots`; empty for those of the allocation, or this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Interface or address for what nodes say to each other; `None` to find one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Further arguments for mpirun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mpirun_args: Vec<String>,
    /// Environment variables that mpirun hands on to other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export: Vec<String>,
    /// How MPI_Comm_spawn places ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_by: Option<String>,
    /// Longest time for an instance to start and load.
    #[serde(rename = "ready_timeout_ms", with = "milliseconds")]
    pub ready_timeout: Duration,
}

/// Heartbeats, deadlines and restarts. The key of each time ends in `_ms`.
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
    /// How many times in a row a lost instance is started again.
    pub max_restarts: u32,
    /// Wait before the first restart; it doubles with each in a row.
    #[serde(rename = "restart_backoff_ms", with = "milliseconds")]
    pub restart_backoff: Duration,
    /// Longest wait before a restart.
    #[serde(rename = "restart_backoff_max_ms", with = "milliseconds")]
    pub restart_backoff_max: Duration,
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

/// The batch job; absent values leave it to the site. [`crate::keys::KEYS`] has their meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are sbatch's options, and stand in the key table")]
pub struct Slurm {
    pub mpi: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntasks_per_node: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus_per_task: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_per_node: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodelist: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    pub exclusive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    pub requeue: bool,
    pub max_requeues: u32,
    pub at_time_limit: AtTimeLimit,
    pub drain_before_s: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_directives: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub srun_args: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prologue: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub container_runtime: ContainerRuntime,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_mounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_workdir: Option<String>,
}

/// Compute threads of a rank. `Auto` is the node's cores shared evenly by its ranks, at least one each.
pub type Threads = AutoOr;

/// A number, or what follows from measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "AutoOrForm", try_from = "AutoOrForm")]
pub enum AutoOr {
    /// As its field says.
    Auto,
    /// This many; at least one.
    Fixed(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AutoOrForm {
    Fixed(usize),
    Word(String),
}

impl From<AutoOr> for AutoOrForm {
    fn from(value: AutoOr) -> Self {
        match value {
            AutoOr::Auto => Self::Word("auto".to_owned()),
            AutoOr::Fixed(count) => Self::Fixed(count),
        }
    }
}

impl TryFrom<AutoOrForm> for AutoOr {
    type Error = &'static str;

    fn try_from(form: AutoOrForm) -> Result<Self, Self::Error> {
        match form {
            AutoOrForm::Fixed(count) if count > 0 => Ok(Self::Fixed(count)),
            AutoOrForm::Word(word) if word == "auto" => Ok(Self::Auto),
            _ => Err("auto or a number above 0"),
        }
    }
}

/// Models as a table by name, in order.
mod by_name {
    use std::fmt;

    use serde::de::{MapAccess, Visitor};
    use serde::{Deserializer, Serializer};

    use super::Model;

    pub(super) fn serialize<S: Serializer>(models: &[Model], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(models.iter().map(|model| (&model.name, model)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Model>, D::Error> {
        struct Models;

        impl<'de> Visitor<'de> for Models {
            type Value = Vec<Model>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of models")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Self::Value, A::Error> {
                let mut models = Vec::new();
                while let Some((name, model)) = table.next_entry::<String, Model>()? {
                    models.push(Model { name, ..model });
                }
                Ok(models)
            }
        }

        from.deserialize_map(Models)
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
