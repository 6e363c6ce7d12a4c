//! `shardrun`: the command line, one file per verb. It runs where MPI is not: it loads no model
//! and joins no world.
#![forbid(unsafe_code)]

mod cli;
mod exit;
mod fetch;
mod mpirun;
mod node;
mod programs;
mod progress;
mod supervisor;
mod verbs;

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Verb};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let done = match cli.verb {
        Verb::Serve(args) => verbs::serve::run(&args, &mut out),
        Verb::Plan(args) => verbs::plan::run(&args, &mut out),
        Verb::Fetch(args) => verbs::fetch::run(&args, &mut out),
        Verb::Config(args) => verbs::config::run(&args, &mut out),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
