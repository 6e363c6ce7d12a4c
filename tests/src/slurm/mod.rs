//! A real Slurm cluster of several nodes on this machine, for a test of its own.
//!
//! Every node is a machine to whatever runs on it: namespaces give it a host name, processes, shared
//! memory, a /tmp and a network interface of its own. There is one more, `login`, with the controller
//! and no slurmd. All files are in one short folder, which is the file system that all of them share;
//! this machine's own /etc, ports and services are left alone. The kernel ends everything with the
//! test, however that ends; only a test that was killed leaves its folder.
//!
//! Where it isn't like a real one: all nodes have one kernel. A Unix socket in the shared folder
//! connects processes on different nodes, whatever the cables do, which no network file system would;
//! and nodes share this machine's processors, memory and clock.

mod cluster;
mod conf;
mod folder;
mod holder;
mod jobs;
mod machine;
mod needs;
mod options;
mod output;
mod subnet;
mod switch;
mod user;

pub use cluster::{Cluster, slurm_or_skip};
pub use jobs::Job;
pub use machine::{Machine, started_by};
pub use needs::Missing;
pub use options::ClusterOptions;
pub use output::{finish, said};
pub use user::User;
