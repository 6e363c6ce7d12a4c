//! `shardrun serve`: leader mode under mpirun, watched to its end.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use anyhow::Context as _;
use nix::unistd::{Pid, getuid};
use shardrun_config::{Allocation, Layout, RunDir, keys, ready_text};
use shardrun_wire::lifeline::{LIFELINE_VARIABLE, Watch};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::ServeArgs;
use crate::fetch;
use crate::mpirun::{EXPORTED, Mpirun};
use crate::node;
use crate::programs;
use crate::progress;
use crate::supervisor::{self, Event, MpirunOutput, Supervisor};

pub(crate) fn run(args: &ServeArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let model = fetch::resolve_model(
        &deployment.model.source,
        deployment.model.sha256.as_ref(),
        progress::on_stderr().as_mut(),
    )?;
    let program = programs::mpirun().context(
        "there is no mpirun on PATH; load your site's MPI module, or install openmpi-bin",
    )?;
    let worker = programs::worker().context(
        "there is no shardrun-worker beside shardrun or on PATH; `cargo build --release` makes it",
    )?;
    let uid = getuid().as_raw();
    for name in shardrun_shm::sweep(&format!("shardrun_{uid}_"))? {
        eprintln!("removed shared memory that a dead process left: {name}");
    }
    let run = RunDir::create(&deployment, &model, uid)?;
    let prefix = run.deployment.run.shm_prefix.clone().context("a run has a shm_prefix")?;
    shardrun_shm::sweep(prefix.as_str())?;

    let here = node::here()?;
    let layout = Layout::new(&deployment, &Allocation { nodes: vec![here.allocation] })?;
    let argv = Mpirun {
        program: &program,
        layout: &layout,
        slots: &[here.slots],
        uid,
        exported: EXPORTED,
        worker: &worker,
        config: &run.config,
    }
    .argv();
    let count = layout.world_size();
    let ranks = if count == 1 { "1 rank".to_owned() } else { format!("{count} ranks") };
    eprintln!("starting {ranks} of {}; logs are in {}", deployment.name, run.path.display());

    let (sender, events) = channel();
    attend_signals(sender.clone())?;
    let lifeline = run.path.join("lifeline");
    let lifelines = Watch::listen(&lifeline, sender.clone(), Event::Life).with_context(|| {
        format!(
            "cannot listen on {}; a shorter run.dir helps if the path has over 100 characters",
            lifeline.display()
        )
    })?;
    let scratch = run.path.join("mpi");
    let (mpirun, output) = start(&argv, &lifeline, &scratch, &run.path.join("mpirun.log"), sender)?;

    let timeouts = &deployment.supervision;
    let supervisor = Supervisor::new(timeouts.heartbeat_timeout, timeouts.drain_timeout);
    let outcome = supervisor::watch(supervisor, &events, &lifelines, mpirun, |http, metrics| {
        // A closed pipe doesn't end what is being served.
        let _ = writeln!(out, "{}", ready_text(&deployment.name, http, metrics));
        let _ = out.flush();
    });

    shardrun_shm::remove_all(prefix.as_str())?;
    let _ = std::fs::remove_dir_all(&scratch);
    let _ = std::fs::remove_file(&lifeline);
    outcome.result(&output.notices())?;
    eprintln!("{} has ended", deployment.name);
    Ok(())
}

/// Starts mpirun in a process group of its own, so that Ctrl-C reaches the launcher alone.
fn start(
    argv: &[std::ffi::OsString],
    lifeline: &Path,
    scratch: &Path,
    log: &Path,
    events: Sender<Event>,
) -> anyhow::Result<(Pid, MpirunOutput)> {
    let (program, arguments) = argv.split_first().context("mpirun's command is empty")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(LIFELINE_VARIABLE, lifeline)
        // Of the same run, and gone with it, even when mpirun is killed.
        .env("OMPI_MCA_orte_tmpdir_base", scratch)
        .env("PRTE_MCA_prte_tmpdir_base", scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // The ranks read the resolved deployment, in which these have been followed.
    for name in keys::env_names() {
        command.env_remove(name);
    }
    std::fs::create_dir(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let log_file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", PathBuf::from(program).display()))?;
    let stdout = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let output = MpirunOutput::show(stdout.into_iter().chain(stderr).collect(), log_file)?;
    let pid = Pid::from_raw(child.id().cast_signed());
    std::thread::Builder::new().name("mpirun".into()).spawn(move || {
        if let Ok(status) = child.wait() {
            // The receiver is gone when nobody asks any more.
            let _ = events.send(Event::MpirunEnded(status));
        }
    })?;
    Ok((pid, output))
}

fn attend_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot attend to signals")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
