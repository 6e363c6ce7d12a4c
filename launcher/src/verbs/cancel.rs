//! `shardrun cancel`: a run ended at once.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use shardrun_slurm::{JobId, Slurm};

use super::print_json;
use crate::cli::CancelArgs;
use crate::run::{JobSays, Run, Runs, Seen, Supervisor};

/// Between two looks at processes.
const LOOK: Duration = Duration::from_millis(50);
/// Between two questions to Slurm.
const ASK: Duration = Duration::from_millis(500);
/// How long a supervisor has for an orderly end.
const ORDERLY: Duration = Duration::from_secs(10);
/// Between the signal that begins an end and the one that hurries it: two at once would be one.
const HURRY: Duration = Duration::from_millis(300);
/// How long ranks may outlive their supervisor.
const RANKS: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &CancelArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let run = Runs::of(args.run.folder.dir.as_deref())?.find(args.run.run.as_deref(), &slurm)?;
    run.check_own()?;
    let seen = Seen::look(run, &slurm)?;
    seen.check_here()?;
    let label = seen.run.label();
    let way = Way::of(&seen)?;
    let done = match (&way, args.dry_run) {
        (Way::Over, _) => format!("nothing to end: {label} {}", seen.standing.clause()),
        (Way::Job(job), true) => format!("would cancel {label}: scancel {job}"),
        (Way::Process(pid), true) => {
            format!("would end {label}: SIGTERM, at last SIGKILL, to its supervisor, process {pid}")
        }
        (Way::Job(job), false) => {
            end_job(&seen.run, job, &slurm, Duration::from_secs(args.wait))?;
            format!("cancelled {label}: job {job} is gone")
        }
        (Way::Process(pid), false) => {
            end_process(&seen, *pid)?;
            format!("ended {label}")
        }
    };
    if !args.dry_run && way != Way::Over {
        // Of processes that were killed on this machine.
        shardrun_shm::sweep(&seen.run.record.shm_prefix)?;
    }
    match args.run.json {
        true => {
            let job = match &way {
                Way::Job(job) => Some(job),
                Way::Over | Way::Process(_) => None,
            };
            let value = json!({
                "run": seen.run.record.id,
                "run_dir": seen.run.dir,
                "dry_run": args.dry_run,
                "was_over": way == Way::Over,
                "job": job,
                "done": done,
            });
            print_json(out, &value)?;
        }
        false => writeln!(out, "{done}")?,
    }
    Ok(())
}

/// How a run is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Over,
    Job(JobId),
    Process(i32),
}

impl Way {
    fn of(seen: &Seen) -> anyhow::Result<Self> {
        if seen.standing.is_over() {
            return Ok(Self::Over);
        }
        if let Some(job) = seen.run.job().filter(|_| seen.run.is_submitted()) {
            return Ok(Self::Job(job));
        }
        match (seen.supervisor, &seen.state) {
            (Supervisor::Runs, Some(state)) => Ok(Self::Process(i32::try_from(state.pid)?)),
            (_, Some(state)) => {
                bail!("the supervisor of {} is on {}: run this there", seen.run.label(), state.host)
            }
            (_, None) => bail!("{}: {}", seen.run.label(), seen.note().unwrap_or_default()),
        }
    }
}

/// Cancels the job, and waits until nothing of it runs.
fn end_job(run: &Run, job: &JobId, slurm: &Slurm, wait: Duration) -> anyhow::Result<()> {
    slurm.cancel(job)?;
    let until = Instant::now() + wait;
    let mut told = false;
    loop {
        let says = JobSays::of(run, slurm);
        if says.is_over() {
            return Ok(());
        }
        if Instant::now() >= until {
            let state = match &says {
                JobSays::Info(info) => format!(
                    "it is {}{}",
                    info.state,
                    info.nodes.as_deref().map_or(String::new(), |nodes| format!(" on {nodes}"))
                ),
                JobSays::Silent(why) => why.clone(),
                JobSays::Elsewhere { cluster, .. } => format!("it is one of the cluster {cluster}"),
                JobSays::NoJob | JobSays::Forgotten => "it is gone".to_owned(),
            };
            bail!("job {job} was cancelled, and after {} s {state}", wait.as_secs());
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("job {job} is ending; waiting up to {} s until it is gone", wait.as_secs());
        }
        std::thread::sleep(ASK);
    }
}

/// Ends a supervisor of this machine, and waits for its ranks.
fn end_process(seen: &Seen, pid: i32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid);
    // Gone already is as good.
    let send = |signal| {
        let _ = kill(pid, signal);
    };
    send(Signal::SIGTERM);
    if !gone(seen, HURRY)? {
        send(Signal::SIGTERM);
        if !gone(seen, ORDERLY)? {
            send(Signal::SIGKILL);
            if !gone(seen, ORDERLY)? {
                bail!("process {pid}, the supervisor, survived SIGKILL: the system holds it");
            }
        }
    }
    let until = Instant::now() + RANKS;
    loop {
        let ranks = seen.ranks_here()?;
        if ranks.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            let left: Vec<_> =
                ranks.iter().map(|(rank, pid)| format!("rank {rank} (pid {pid})")).collect();
            bail!("its supervisor is gone, and these still run: {}", left.join(", "));
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether the supervisor ends within this time.
fn gone(seen: &Seen, within: Duration) -> anyhow::Result<bool> {
    let until = Instant::now() + within;
    loop {
        let now = Seen::with_job(seen.run.clone(), JobSays::NoJob)?;
        if now.unreadable.is_none() && now.supervisor != Supervisor::Runs {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
}
