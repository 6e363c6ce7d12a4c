//! `shardrun drain`: running requests finish, new ones are refused, and the run ends.

use std::io::Write;

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use shardrun_config::RunDir;
use shardrun_slurm::Slurm;

use super::print_json;
use crate::cli::DrainArgs;
use crate::clock::span;
use crate::run::{Runs, Seen, Standing, Supervisor};

/// How a run's supervisor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Process(i32),
    Job(shardrun_slurm::JobId),
}

pub(crate) fn run(args: &DrainArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let run = Runs::of(args.run.folder.dir.as_deref())?.find(args.run.run.as_deref(), &slurm)?;
    run.check_own()?;
    let seen = Seen::look(run, &slurm)?;
    seen.check_here()?;
    let label = seen.run.label();
    match seen.standing {
        Standing::Waiting => {
            bail!("{label} has not started; `shardrun cancel` takes it out of the queue")
        }
        standing if standing.is_over() => bail!("nothing to drain: {label} {}", standing.clause()),
        _ => {}
    }
    let way = way(&seen)?;
    let timeout = RunDir::open(&seen.run.dir)?.deployment.supervision.drain_timeout;
    if !args.dry_run {
        match &way {
            Way::Process(pid) => kill(Pid::from_raw(*pid), Signal::SIGTERM)?,
            Way::Job(job) => slurm.signal(job, "TERM")?,
        }
    }
    let how = match &way {
        Way::Process(pid) => format!("SIGTERM to its supervisor, process {pid}"),
        Way::Job(job) => format!("scancel --batch --signal=TERM {job}"),
    };
    if args.run.json {
        let value = json!({
            "run": seen.run.record.id,
            "run_dir": seen.run.dir,
            "dry_run": args.dry_run,
            "how": how,
            "drain_timeout_ms": timeout.as_millis() as u64,
        });
        return Ok(print_json(out, &value)?);
    }
    match args.dry_run {
        true => writeln!(out, "would drain {label}: {how}")?,
        false => writeln!(
            out,
            "draining {label}: its requests have up to {} to finish (supervision.drain_timeout_ms)",
            span(timeout.as_secs().max(1))
        )?,
    }
    Ok(())
}

fn way(seen: &Seen) -> anyhow::Result<Way> {
    let state = seen.state.as_ref();
    if let (Supervisor::Runs, Some(state)) = (seen.supervisor, state) {
        return Ok(Way::Process(i32::try_from(state.pid)?));
    }
    let label = seen.run.label();
    match (seen.run.job().filter(|_| seen.run.is_submitted()), state) {
        (Some(job), _) => Ok(Way::Job(job)),
        (None, Some(state)) => {
            bail!("the supervisor of {label} is on {}: run this there", state.host)
        }
        (None, None) => bail!("{label}: {}", seen.note().unwrap_or_default()),
    }
}
