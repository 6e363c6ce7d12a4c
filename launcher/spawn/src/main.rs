//! `shardrun-spawn`: an MPI process of world size one that starts the ranks of one instance by
//! MPI_Comm_spawn, and lives as long as they do.
//!
//! It is disposable: of one instance each, so that the death of a rank, which MPI may answer with the
//! death of everything connected to it, reaches no other instance, nor the supervisor, which is outside
//! MPI. It computes nothing and says nothing to the ranks, which part from it as soon as they run.

mod cli;
mod spawn;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;
use nix::unistd::getppid;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let watch = match watch::Watch::begin(&cli, getppid()) {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("shardrun-spawn: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match spawn::spawn(&cli) {
        Ok(()) => watch.until_left_alone(),
        Err(error) => watch.give_up(&format!("{error:#}")),
    }
}
