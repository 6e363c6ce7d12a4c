//! The harness for tests of what crosses a process: it starts deployments as a user does, speaks to
//! them as clients do, hurts them, and looks at what they leave behind.
//!
//! Nothing here reaches into a running deployment: what is asserted is what anyone can see from
//! outside. The stories are in `tests/`, one file each.

mod deployment;
mod generation;
mod golden;
mod http;
mod leftovers;
mod metrics;
mod perplexity;
mod processes;
mod programs;
mod setup;
mod sharing;
pub mod slurm;
mod spawn;
mod wait;

pub use deployment::{Deployment, Ready};
pub use generation::{Generation, GenerationCase, GoldenSequence, generation};
pub use golden::{Golden, GoldenPrompt, LOGIT_ERROR, golden, golden_qwen};
pub use http::{Client, Events, RawReply, Reply, raw_request};
pub use leftovers::Leftovers;
pub use metrics::{Exposition, Sample};
pub use perplexity::Losses;
pub use processes::{Attempt, Process, Role, cpu_seconds, has_thread, is_stopped, processes_of};
pub use programs::{cpu_has, model, mpirun, program, qwen};
pub use setup::{Setup, free_ports};
pub use sharing::Shared;
pub use wait::{until, until_some};
