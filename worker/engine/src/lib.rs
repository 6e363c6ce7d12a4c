//! Requests become iterations become tokens.
//!
//! The leader's [`Scheduler`] is pure; its [`IterationPlan`] is all that ranks need to agree on. An
//! [`Executor`] runs plans on one rank's share of the model, whatever the backend. Clients
//! come in through [`LocalEngine`] only.

mod blocks;
mod client;
mod executor;
mod follower;
mod leader;
mod plan;
mod random;
mod requests;
mod sampling;
mod scheduler;

pub use blocks::{BlockId, BlockPool};
pub use client::{Inbox, LocalEngine, local_engine};
pub use executor::{ExecuteError, Executor};
pub use follower::follow;
pub use leader::{EngineError, Leader, LeaderParts};
pub use plan::{IterationPlan, Order, SequencePlan, longest_order};
pub use sampling::Sampler;
pub use scheduler::{SampleRow, Scheduler, SchedulerLimits, SchedulerStats};
