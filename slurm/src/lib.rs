//! Everything that knows Slurm: batch scripts and steps are written here, Slurm's own programs are
//! run here, and what they and the environment of a job say is read here.
//!
//! Nothing here knows what a deployment or a rank is, talks to Slurm but through the site's
//! programs, or decides what is done about what it finds.

#![forbid(unsafe_code)]

mod allocation;
mod client;
mod command;
mod container;
mod error;
pub mod hostlist;
mod job;
mod memory;
mod partition;
mod read;
#[cfg(test)]
mod recorded;
mod script;
mod srun;
mod state;
mod time;
mod why;

pub use allocation::{Allocation, asked_gpus};
pub use client::{Listed, Slurm, Submitted, is_program};
pub use container::{Container, Mount, Runtime};
pub use error::{Accounting, SlurmError};
pub use job::{Exit, JobId, JobInfo};
pub use memory::{Memory, human, parse_request};
pub use partition::{NodeGroup, Partition, find_partitions, gpus_of};
pub use script::{Script, WarningSignal, directive_name};
pub use srun::Srun;
pub use state::{JobState, Phase};
pub use time::TimeLimit;
pub use why::{Facts, Verdict, signal_name, why};
