//! What can be typed.

use std::path::PathBuf;

use clap::Parser;
use shardrun_config::parse_setting;

/// One rank of a deployment. Started as `mpirun -n 2 shardrun-worker --config FILE`, or by
/// `shardrun serve FILE`, which also watches it.
#[derive(Debug, Parser)]
#[command(name = "shardrun-worker", version, help_expected = true)]
pub(crate) struct Cli {
    /// The deployment file, as described in docs/config.md; only rank 0's counts
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set a key of the deployment; may be repeated, the last one counts
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
}
