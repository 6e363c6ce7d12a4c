//! What can be typed of the verbs around a run.

use std::path::PathBuf;

use clap::{Args, value_parser};

use super::DeploymentArgs;

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Print the script and ask Slurm whether it would take it; submit and leave nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Further arguments for sbatch, after `--`; they win over the script's directives
    #[arg(last = true, value_name = "SBATCH_ARGUMENT")]
    pub(crate) sbatch: Vec<String>,
}

/// One run.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// The run: its directory, its id, its deployment's name, its Slurm job, or `last`; without it, your newest run
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where runs are.
#[derive(Debug, Default, Args)]
pub(crate) struct FolderArgs {
    /// The folder that runs are in, if the deployment's run.dir is not your or your site's usual one
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Go on until the run has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The log of this rank, instead of the job's output; may be repeated
    #[arg(long, value_name = "N")]
    pub(crate) rank: Vec<u32>,
    /// The logs of the ranks of this instance, as in MODEL.0
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Begin with the last N lines of each log; all, if left out
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) lines: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Wait so many seconds for it to serve
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = value_parser!(u64).range(..=604_800))]
    pub(crate) wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Say what would be done, and don't
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Say what would be done, and don't
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many seconds to wait until it is gone
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u64).range(..=86_400))]
    pub(crate) wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// All of them, instead of the newest 20
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["run", "older_than", "all_ended"]))]
pub(crate) struct CleanArgs {
    /// The run: its directory, its id, its deployment's name, its Slurm job, or `last`
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// All runs that ended more than so many days ago
    #[arg(long, value_name = "DAYS", value_parser = value_parser!(u64).range(..=36_500))]
    pub(crate) older_than: Option<u64>,
    /// All runs that have ended
    #[arg(long)]
    pub(crate) all_ended: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Say what would be removed, and don't
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A deployment file: what it needs is looked at, too
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Set a key of the deployment; may be repeated, the last one counts
    #[arg(long, value_name = "KEY=VALUE", value_parser = shardrun_config::parse_setting, requires = "file")]
    pub(crate) set: Vec<(String, String)>,
    /// Look at a compute node, by a short Slurm step with the deployment's partition and account
    #[arg(long)]
    pub(crate) on_node: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}
