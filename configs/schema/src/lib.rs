//! The deployment file: what it may say, where each value came from, and what it means on a
//! given set of nodes.
//!
//! [`keys::KEYS`] lists every key once; parsing, environment names, `--set` and
//! `docs/config.md` all follow it. [`Deployment::load`] merges defaults, site files, file,
//! environment and flags; [`Layout::new`] places the ranks, and is pure. The few texts that launcher and worker both
//! print are here, too. This crate starts nothing and knows neither MPI nor models.
#![forbid(unsafe_code)]

mod banner;
mod choices;
mod deployment;
mod error;
mod file;
pub mod keys;
mod kind;
mod layout;
mod load;
mod names;
mod origin;
mod reference;
mod rules;
mod run_id;
mod rundir;
mod source;
mod told;

pub use banner::ready_text;
pub use choices::{
    Activations, AtTimeLimit, BatchSchedulerPolicy, Collectives, ContainerRuntime,
    ContextChunkingPolicy, Device, Isa, KvCacheDtype, LogLevel, Mode, Routing, Spawner, Starter,
};
pub use deployment::{
    AutoOr, Deployment, IdSets, KvCache, Launch, Metrics, Model, Run, Server, Slurm, Supervision,
    Threads,
};
pub use error::{ConfigError, ConfigErrors, Conflict};
pub use kind::{Kind, Value};
pub use layout::{
    Allocation, InstanceLayout, Layout, LayoutError, NodeAllocation, NodeShare, RankPlace,
};
pub use load::{Loaded, Setting, parse_setting, site_files, usual_run_dir};
pub use names::{Sha256, ShmPrefix};
pub use origin::{Origin, Position};
pub use reference::reference;
pub use run_id::{RunId, RunIdError};
pub use rundir::{RunDir, RunDirError};
pub use source::{ModelSource, SourceError, cache_dir};
pub use told::with_causes;
