//! Keeping a deployment alive: events in, actions out.
//!
//! The supervisor is outside MPI, so no rank's death can reach it. [`Fleet`] decides for all instances
//! and [`Instance`](instance::Instance) for one, both without a clock or a side effect; [`Keeper`] carries out what they
//! decide.

mod cause;
mod fleet;
mod instance;
mod keeper;
mod output;
mod probe;
mod restarts;

pub(crate) use cause::Ended;
pub(crate) use fleet::{Event, Fleet, FleetConfig, InstanceState, JobEnd};
pub(crate) use instance::Rules;
pub(crate) use keeper::{Keeper, News};
pub(crate) use restarts::RestartPolicy;
