//! `shardrun-spawn`: an MPI process of world size one that starts the ranks of one instance by
//! MPI_Comm_spawn, and lives as long as they do.
//!
//! It is disposable: of one instance each, so that the death of a rank, which MPI may answer with the
//! death of everything connected to it, reaches no other instance, nor the supervisor, which is outside
//! MPI. It computes nothing and says nothing to the ranks, which part from it as soon as they run.

mod cli;
mod spawn;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use nix::unistd::getppid;

/// How often it looks whether its supervisor is still there.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let supervisor = getppid();
    match spawn::spawn(&cli) {
        Ok(()) => {}
        Err(error) => {
            eprintln!("shardrun-spawn: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    // MPI's daemon for the ranks ends with this process, and the ranks, whose lifelines tell them of
    // the supervisor's end, with that.
    while getppid() == supervisor {
        std::thread::sleep(LOOK);
    }
    if let Some(scratch) = &cli.scratch {
        // What can't be removed is in the run's directory, and goes with that.
        let _ = std::fs::remove_dir_all(scratch);
    }
    ExitCode::SUCCESS
}
