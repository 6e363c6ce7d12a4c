//! `shardrun render`: the batch script, and nothing else.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;
use shardrun_config::RunDir;

use super::print_json;
use crate::cli::RenderArgs;
use crate::submission::script;

/// Stands where a run's id will be.
const RUN_ID: &str = "RUN_ID";

pub(crate) fn run(args: &RenderArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let run = RunDir::path_of(&deployment, RUN_ID);
    let script = script(&deployment, &run, &this_program()?, named_worker())?.render()?;
    match args.json {
        true => print_json(out, &json!({ "run_dir": run, "script": script }))?,
        false => write!(out, "{script}")?,
    }
    Ok(())
}

/// Where this program is, for a job to run it.
pub(super) fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}

/// The worker that the environment names, which a job must be told of.
pub(super) fn named_worker() -> Option<String> {
    std::env::var("SHARDRUN_WORKER").ok()
}
