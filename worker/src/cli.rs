//! What can be typed.

use std::path::PathBuf;

use clap::Parser;
use shardrun_config::parse_setting;
use shardrun_wire::Address;

/// One rank of a deployment. Started as `mpirun -n 2 shardrun-worker --config FILE`, as
/// `srun --mpi=pmix -n 2 shardrun-worker --config FILE`, or by `shardrun serve FILE`, which also
/// watches it.
#[derive(Clone, Debug, Parser)]
#[command(name = "shardrun-worker", version, help_expected = true)]
pub(crate) struct Cli {
    /// The deployment file, as described in docs/config.md; only rank 0's counts
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set a key of the deployment; may be repeated, the last one counts
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
    /// Where the supervisor listens, who has settled the deployment, in the order in which to try; set by
    /// `shardrun serve`
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) supervisor: Vec<Address>,
    /// The node that the supervisor's sockets are on: on others they lead nowhere
    #[arg(long, value_name = "HOST", requires = "supervisor")]
    pub(crate) supervisor_host: Option<String>,
    /// Which instance this is a rank of, by the supervisor's count
    #[arg(long, value_name = "N", default_value_t = 0, requires = "supervisor")]
    pub(crate) instance: u32,
    /// Which of the deployment's instances that is; without, the one of that number
    #[arg(long, value_name = "N", requires = "supervisor")]
    pub(crate) place: Option<usize>,
    /// The rank was started by MPI_Comm_spawn
    #[arg(long, requires = "supervisor")]
    pub(crate) spawned: bool,
    /// The rank is alone, and needs no MPI
    #[arg(long, requires = "supervisor", conflicts_with = "spawned")]
    pub(crate) alone: bool,
    /// How often the instance was started before
    #[arg(long, value_name = "N", default_value_t = 0, requires = "supervisor")]
    pub(crate) attempt: u32,
}

impl Cli {
    /// The instance's place in the deployment.
    pub(crate) fn place(&self) -> usize {
        self.place.unwrap_or(self.instance as usize)
    }

    /// Whether somebody outside MPI watches all ranks.
    pub(crate) fn is_supervised(&self) -> bool {
        !self.supervisor.is_empty()
    }
}
