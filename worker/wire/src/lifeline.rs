//! The lifeline: a line from each rank to whoever watches it, the supervisor or, without one, the
//! leader. Its end is how either learns of the other's death; what is said on it is how a watcher
//! learns of life.
//!
//! It carries nothing of the model's work, so a rank that hangs in a collective still has one. On the
//! watcher's machine it is a Unix socket, between machines TCP, known and encrypted by the run's
//! [`Secret`](crate::Secret).
//!
//! # What a watcher can tell apart
//! * **A process has ended**: its lifeline ends, [`Event::Closed`], at once.
//! * **A rank is frozen**, by SIGSTOP for one: its lifeline is open and silent. [`Pulse`] says so after
//!   the timeout, and that others of its host were heard meanwhile.
//! * **A node or the network is gone**: the same, but nobody on that host is heard. If the rank is the
//!   only one there, or all of a host are frozen, a watcher has to ask the host itself.

mod frame;
mod link;
pub(crate) mod opening;
mod pulse;
mod rank_id;
mod watch;

use serde::{Deserialize, Serialize};

pub use link::{Link, LinkReader};
pub use pulse::{OthersOnHost, Pulse, Silence};
pub use rank_id::RankId;
pub use watch::{Event, Watch};

/// Who is at the other end of a new lifeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which rank.
    pub id: RankId,
    /// Ranks in its world.
    pub world_size: u32,
    /// Its process, as it sees itself; as the watcher's kernel sees it where that can say.
    pub pid: i32,
    /// Its host's name.
    pub host: String,
    /// Its log, on its host.
    pub log: String,
}

/// What a rank says to its watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRank {
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
    /// The leader's engine takes requests by the line that it has offered: it has no gateway.
    Serving,
    /// What the rank has counted: the words of its page of metrics. Said by ranks whose page is on
    /// another node than what is scraped, with each heartbeat and at the end.
    Counted {
        /// As they lie in the page.
        words: Vec<u64>,
    },
    /// The rank got a signal that asks it to end. It goes on: what follows is its supervisor's to say.
    Signalled {
        /// Its number.
        signal: i32,
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
    Drain {
        /// Milliseconds that they may take.
        grace_ms: u64,
    },
    /// End now, failing what runs.
    Stop,
    /// To the leader, whose metrics are scraped: what a rank on another node has counted.
    Counted {
        /// Which rank.
        rank: u32,
        /// The rank's node.
        host: String,
        /// As [`FromRank::Counted`] has them.
        words: Vec<u64>,
    },
}
