//! What can be typed.

mod runs;

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand};
pub(crate) use runs::{
    CancelArgs, CleanArgs, DoctorArgs, DrainArgs, EndpointArgs, ListArgs, LogsArgs, RenderArgs,
    StatusArgs, SubmitArgs, WhyArgs,
};
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
    /// Writes a deployment file from another server's configuration
    Import(ImportArgs),
    /// Prints the batch script that `submit` would hand to Slurm
    Render(RenderArgs),
    /// Submits the deployment to Slurm as a batch job
    Submit(SubmitArgs),
    /// Says how a run is doing: its stage, job, nodes, instances and ranks
    Status(StatusArgs),
    /// Prints what a run's job, supervisor and ranks have logged
    Logs(LogsArgs),
    /// Says where a run serves, with a command to try it and one to reach it from elsewhere
    Endpoint(EndpointArgs),
    /// Lets the running requests finish, and then ends the run
    Drain(DrainArgs),
    /// Ends a run at once, and waits until it is gone
    Cancel(CancelArgs),
    /// Lists your runs, the newest first
    List(ListArgs),
    /// Removes what runs that have ended left behind
    Clean(CleanArgs),
    /// Looks whether this machine, or a compute node, has what a deployment needs
    Doctor(DoctorArgs),
    /// Says why a run or a Slurm job waits, runs, or ended as it did
    Why(WhyArgs),
}

// A run's directory stands for a file, which has a meaningless value then.
#[derive(Debug, Args)]
#[command(mut_arg("file", |file| file
    .required(false)
    .required_unless_present("run_dir")
    .default_value_if("run_dir", ArgPredicate::IsPresent, ".")))]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Serve what `shardrun submit` has left in this run's directory, as its job script does
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub(crate) run_dir: Option<PathBuf>,
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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) verb: ImportVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// Reads a Triton model repository for TensorRT-LLM, and tells what became of each parameter
    Triton(ImportTritonArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImportTritonArgs {
    /// The model repository: the folder with the models' folders, each with its config.pbtxt
    #[arg(value_name = "MODEL_REPO")]
    pub(crate) repository: PathBuf,
    /// File to write, which must not exist; standard output without it
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print the report as JSON on standard output; without it, it is a table on standard error
    #[arg(long, requires = "output")]
    pub(crate) json: bool,
    /// The model's GGUF file; with several models, once for each: tensorrt_llm_2=PATH
    #[arg(long, value_name = "[MODEL=]PATH")]
    pub(crate) source: Vec<String>,
}

/// A deployment file, and what the command line changes of it.
#[derive(Clone, Debug, Default, Args)]
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
    fn serve_takes_a_file_or_a_runs_directory() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        let Verb::Serve(args) = parse("shardrun serve --run-dir /r").unwrap().verb else {
            panic!("not serve");
        };
        assert_eq!(args.run_dir.as_deref(), Some("/r".as_ref()));
        assert!(parse("shardrun serve x.toml").is_ok());
        assert!(parse("shardrun serve").is_err() && parse("shardrun plan").is_err());
        assert!(parse("shardrun serve x.toml --run-dir /r").is_err());
    }

    #[test]
    fn further_arguments_of_sbatch_come_after_two_dashes() {
        let line = "shardrun submit x.toml --set slurm.time=30 --dry-run -- --mail-type=END -H";
        let Verb::Submit(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().verb else {
            panic!("not submit");
        };
        assert_eq!(args.sbatch, ["--mail-type=END", "-H"]);
        assert!(args.dry_run && !args.json);
        assert!(Cli::try_parse_from(["shardrun", "submit", "x.toml", "-H"]).is_err());
    }

    #[test]
    fn clean_needs_to_be_told_what() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        assert!(parse("shardrun clean").is_err());
        assert!(parse("shardrun clean last --all-ended").is_err());
        assert!(parse("shardrun clean --older-than 0").is_ok());
        for wrong in ["-1", "x", "36501"] {
            assert!(parse(&format!("shardrun clean --older-than {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_may_be_left_out() {
        for verb in ["status", "logs", "endpoint", "drain", "cancel", "why"] {
            assert!(Cli::try_parse_from(["shardrun", verb, "--json"]).is_ok(), "{verb}");
            assert!(Cli::try_parse_from(["shardrun", verb, "last", "--dir", "/r"]).is_ok());
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
