//! `shardrun-worker`: one rank of a deployment, started by `mpirun`, by `srun`, or by hand.
//!
//! Rank 0 reads the deployment and leads: it hosts the gateway and plans iterations. The others
//! follow. The main thread is the step thread.

mod boot;
mod cli;
mod environment;
mod exit;
mod life;
mod load;
mod logs;
mod offered;
mod placement;
mod roles;
mod signals;
mod turns;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

fn main() -> ExitCode {
    let began = Instant::now();
    let cli = cli::Cli::parse();
    exit::on_panic();
    match boot::run(&cli, began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(&error),
    }
}
