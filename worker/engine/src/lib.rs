//! Requests become iterations become tokens.
//!
//! The leader's [`Scheduler`] is pure; its [`IterationPlan`] is all that ranks need to agree on. An
//! [`Executor`] runs plans on one rank's share of the model, whatever the backend. Clients
//! come in through [`LocalEngine`] only.

mod beam;
mod check;
mod client;
mod draw;
mod executor;
mod follower;
mod guide;
mod iterations;
mod kv;
mod leader;
mod plan;
mod random;
mod requests;
mod sampling;
mod scheduler;
#[cfg(test)]
mod soak;

pub use client::{Inbox, LocalEngine, local_engine};
pub use executor::{ExecuteError, Executor, ExecutorLimits};
pub use follower::follow;
pub use guide::{GuideError, GuideVocabulary};
pub use kv::KvCacheConfig;
pub use leader::{EngineError, Leader, LeaderParts, Records};
pub use plan::{IterationPlan, Order, Rows, SequencePlan, longest_order};
pub use sampling::{Candidate, Sampled, Sampler, SequenceView};
pub use scheduler::{
    CapacityPolicy, ChunkingPolicy, Draw, Drawn, Event, PrefillBudget, Scheduler, SchedulerConfig,
    SchedulerStats, SequenceRef,
};
