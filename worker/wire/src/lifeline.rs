//! The lifeline: a socket from each rank to whoever watches it, the supervisor or, without one, the
//! leader. Its end is how either learns of the other's death; what is said on it is how a watcher
//! learns of life.
//!
//! It carries nothing of the model's work, so a rank that hangs in a collective still has one.

mod frame;
mod link;
mod pulse;
mod watch;

use serde::{Deserialize, Serialize};

pub use link::{Link, LinkReader};
pub use pulse::Pulse;
pub use watch::{Event, Watch};

/// The environment variable that tells a rank where its supervisor listens.
pub const LIFELINE_VARIABLE: &str = "SHARDRUN_LIFELINE";

/// Who is at the other end of a new lifeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Rank in the world.
    pub rank: u32,
    /// Ranks in the world.
    pub world_size: u32,
    /// Its host's name.
    pub host: String,
    /// Its log, on its host.
    pub log: String,
}

/// What a rank says to its watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRank {
    /// The first message: who it is.
    Hello(Hello),
    /// A heartbeat.
    Alive {
        /// The iteration that it runs, or ran last; 0 before the first.
        step: u64,
    },
    /// Part of the model is in memory.
    Loading {
        /// Layers done.
        done: u32,
        /// Layers in all.
        layers: u32,
    },
    /// The rank's share of the model is in memory.
    Loaded {
        /// Bytes of weights.
        weight_bytes: u64,
        /// Bytes of the KV cache.
        kv_cache_bytes: u64,
        /// Milliseconds that it took.
        load_ms: u64,
        /// What the rank holds and runs on, in words.
        shard: String,
    },
    /// The leader serves.
    Ready {
        /// Address of the HTTP interface, `host:port`.
        http: String,
        /// Address of the metrics, `host:port`.
        metrics: String,
    },
    /// The rank can't go on, and ends.
    Failed {
        /// Why.
        reason: String,
    },
    /// The rank ends as it was told to; the end of the lifeline that follows is no death.
    Goodbye,
}

/// What a watcher says to a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRank {
    /// A heartbeat.
    Alive,
    /// Finish the running requests, then end.
    Drain,
    /// End now, failing what runs.
    Stop,
}
