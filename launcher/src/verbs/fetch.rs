//! `shardrun fetch`: for machines whose compute nodes have no network, and for setup scripts.

use std::io::Write;

use crate::cli::FetchArgs;
use crate::{fetch, progress};

pub(crate) fn run(args: &FetchArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    for path in fetch::resolve_models(&deployment, progress::on_stderr().as_mut())? {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
