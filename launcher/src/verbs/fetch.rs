//! `shardrun fetch`: for machines whose compute nodes have no network, and for setup scripts.

use std::io::Write;

use crate::cli::FetchArgs;
use crate::{fetch, progress};

pub(crate) fn run(args: &FetchArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = args.deployment.load()?.deployment.model;
    let mut progress = progress::on_stderr();
    let path = fetch::resolve_model(&model.source, model.sha256.as_ref(), &mut *progress)?;
    writeln!(out, "{}", path.display())?;
    Ok(())
}
