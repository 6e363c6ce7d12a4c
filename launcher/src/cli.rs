//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use shardrun_config::{ConfigErrors, Deployment, Loaded, parse_setting};

/// Serves large language models on the ranks of an MPI or Slurm machine.
#[derive(Debug, Parser)]
#[command(name = "shardrun", version, help_expected = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Starts the deployment's ranks under mpirun, watches them, and serves until stopped
    Serve(ServeArgs),
    /// Prints ranks, placement, ports and the launch command; starts and downloads nothing
    Plan(PlanArgs),
    /// Downloads the deployment's model into the cache, if it isn't there, and prints its path
    Fetch(FetchArgs),
    /// Checks a deployment file, or shows what it comes to
    Config(ConfigArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Says whether a deployment file is valid, and everything that is wrong with it
    Check(CheckArgs),
    /// Prints every value with where it came from: default, file, environment or command line
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A deployment file, and what the command line changes of it.
#[derive(Debug, Default, Args)]
pub(crate) struct DeploymentArgs {
    /// The deployment file, as described in docs/config.md
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Set a key of the deployment; may be repeated, the last one counts
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
    /// Ranks that share every layer (model.tp_size)
    #[arg(long, value_name = "N")]
    pub(crate) tp_size: Option<String>,
    /// Compute threads of a rank, or auto (model.threads)
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<String>,
    /// Address to listen on (server.host)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// Port of the API (server.http_port)
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<String>,
    /// Port of /metrics (server.metrics_port)
    #[arg(long, value_name = "PORT")]
    pub(crate) metrics_port: Option<String>,
}

impl DeploymentArgs {
    /// The deployment, with this process's environment and these flags merged over the file.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigErrors> {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Deployment::load(&self.file, env, &self.flags())
    }

    /// Dotted paths and values; the flags with names of their own come after `--set`.
    fn flags(&self) -> Vec<(String, String)> {
        let named = [
            ("model.tp_size", &self.tp_size),
            ("model.threads", &self.threads),
            ("server.host", &self.host),
            ("server.http_port", &self.http_port),
            ("server.metrics_port", &self.metrics_port),
        ];
        let given =
            named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        self.set.iter().cloned().chain(given).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_keys_that_exist() {
        let line = "shardrun plan x.toml --set run.log_level=debug --tp-size 4 --threads auto \
                    --host ::1 --http-port 1 --metrics-port 2";
        let Verb::Plan(plan) = Cli::try_parse_from(line.split_whitespace()).unwrap().verb else {
            panic!("not plan");
        };
        let flags = plan.deployment.flags();
        assert_eq!(flags.len(), 6);
        assert_eq!(flags[0], ("run.log_level".to_owned(), "debug".to_owned()));
        for (key, _) in &flags {
            assert!(shardrun_config::keys::find(key).is_some(), "{key}");
        }
    }

    #[test]
    fn set_takes_a_key_and_a_value() {
        for wrong in ["model.tp_size", "=4"] {
            let error = Cli::try_parse_from(["shardrun", "plan", "x", "--set", wrong]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("expected KEY=VALUE"), "{error}");
        }
    }
}
