//! `shardrun`: the command line, one file per verb. It runs where MPI is not: it loads no model
//! and joins no world.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod doctor;
mod exit;
mod fetch;
mod import;
mod job;
mod logs;
mod memory;
mod nodes;
mod orchestrator;
mod programs;
mod progress;
mod run;
mod starter;
mod submission;
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
        Verb::Import(args) => verbs::import::run(&args, &mut out),
        Verb::Render(args) => verbs::render::run(&args, &mut out),
        Verb::Submit(args) => verbs::submit::run(&args, &mut out),
        Verb::Status(args) => verbs::status::run(&args, &mut out),
        Verb::Logs(args) => verbs::logs::run(&args, &mut out),
        Verb::Endpoint(args) => verbs::endpoint::run(&args, &mut out),
        Verb::Drain(args) => verbs::drain::run(&args, &mut out),
        Verb::Cancel(args) => verbs::cancel::run(&args, &mut out),
        Verb::List(args) => verbs::list::run(&args, &mut out),
        Verb::Clean(args) => verbs::clean::run(&args, &mut out),
        Verb::Doctor(args) => verbs::doctor::run(&args, &mut out),
        Verb::Why(args) => verbs::why::run(&args, &mut out),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
