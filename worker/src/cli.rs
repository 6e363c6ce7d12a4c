//! What can be typed.

use std::path::PathBuf;

use clap::Parser;

/// One rank of a deployment. Started as `mpirun -n 2 shardrun-worker --config FILE`, or by
/// `shardrun serve FILE`, which also watches it.
#[derive(Debug, Parser)]
#[command(name = "shardrun-worker", version, help_expected = true)]
pub(crate) struct Cli {
    /// The deployment file, as described in docs/config.md; only rank 0's counts
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set a key of the deployment; may be repeated, the last one counts
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(crate) set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in model.tp_size=4".to_owned()),
    }
}
