//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// Starts ranks by MPI_Comm_spawn, and lives until the process that started it is gone or ends it. Used by
/// `shardrun serve` where launch.spawner is "comm_spawn".
#[derive(Debug, Parser)]
#[command(name = "shardrun-spawn", version, help_expected = true)]
pub(crate) struct Cli {
    /// How many ranks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ranks: u16,
    /// Nodes, each with its number of ranks, as in a:2,b:1; without, all ranks go on this one
    #[arg(long, value_name = "HOSTS")]
    pub(crate) hosts: Option<String>,
    /// The MPI library has not heard of these nodes yet
    #[arg(long, requires = "hosts")]
    pub(crate) add_hosts: bool,
    /// How the MPI library places ranks on the nodes
    #[arg(long, value_name = "POLICY")]
    pub(crate) map_by: Option<String>,
    /// Environment variable that ranks on other nodes have too, NAME or NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME", requires = "hosts")]
    pub(crate) export: Vec<String>,
    /// How long the ranks may take to start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout_ms: Option<u64>,
    /// Working directory of the ranks
    #[arg(long, value_name = "DIR")]
    pub(crate) wdir: Option<String>,
    /// Folder of the MPI library's files, to be removed if the supervisor is gone and can't do it
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// The program of each rank, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
