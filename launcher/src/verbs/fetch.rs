//! `shardrun fetch`: for machines whose compute nodes have no network, and for setup scripts.

use std::io::Write;

use serde_json::json;

use super::print_json;
use crate::cli::FetchArgs;
use crate::{fetch, progress};

pub(crate) fn run(args: &FetchArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let paths = fetch::resolve_models(&deployment, progress::on_stderr().as_mut())?;
    if args.json {
        let models = deployment.models.iter().zip(&paths);
        let models = models.map(|(model, path)| json!({ "model": model.name, "path": path }));
        return Ok(print_json(out, &models.collect::<Vec<_>>())?);
    }
    for path in paths {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
