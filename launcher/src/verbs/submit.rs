//! `shardrun submit`: a deployment as a batch job.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use nix::unistd::getuid;
use serde_json::json;
use shardrun_config::{Deployment, RunDir};
use shardrun_slurm::{Slurm, SlurmError, Submitted};

use super::print_json;
use super::render::{named_worker, this_program};
use crate::cli::SubmitArgs;
use crate::job::SCRIPT;
use crate::run::{RunRecord, Runs};
use crate::starter::{self, Kind};
use crate::submission::{Demand, Size, script};
use crate::{fetch, programs, progress};

pub(crate) fn run(args: &SubmitArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let size = Size::of(&deployment)?;
    let slurm = Slurm::new();
    check_arguments(&args.sbatch)?;
    check_cluster(&deployment, &size, &args.sbatch, &slurm)?;
    if programs::worker().is_none() {
        bail!(
            "there is no {} beside shardrun or on PATH, and $SHARDRUN_WORKER names none; `cargo build \
             --release` makes it",
            programs::WORKER
        );
    }
    match args.dry_run {
        true => dry_run(&deployment, args, &slurm, out),
        false => submit(&deployment, args, &slurm, out),
    }
}

/// What would make several jobs of one run directory.
fn check_arguments(options: &[String]) -> anyhow::Result<()> {
    let array = |option: &&String| {
        option.starts_with("--array") || (option.starts_with("-a") && !option.starts_with("--"))
    };
    match options.iter().find(array) {
        Some(option) => bail!("{option} is not possible: a run is one job"),
        None => Ok(()),
    }
}

/// Finds what Slurm would refuse, or take and never start.
fn check_cluster(
    deployment: &Deployment,
    size: &Size,
    options: &[String],
    slurm: &Slurm,
) -> anyhow::Result<()> {
    Demand::of(deployment, size, options).check(&slurm.partitions()?)?;
    if starter::kind(deployment, true) == Kind::Srun {
        let (wanted, plugins) = (&deployment.slurm.mpi, slurm.mpi_plugins()?);
        if !plugins.contains(wanted) {
            bail!(
                "slurm.mpi is {wanted:?}, and srun has no such MPI plugin; `srun --mpi=list` has {}",
                plugins.join(", ")
            );
        }
    }
    Ok(())
}

fn submit(
    deployment: &Deployment,
    args: &SubmitArgs,
    slurm: &Slurm,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let files = fetch::resolve_models(deployment, progress::on_stderr().as_mut())?;
    for (model, path) in deployment.models.iter().zip(&files) {
        fs::File::open(path).with_context(|| {
            format!("source of model {}: cannot read {}", model.name, path.display())
        })?;
    }
    let uid = getuid().as_raw();
    let run = RunDir::create(deployment, &files, uid)?;
    let submitted = write(&run, uid).and_then(|path| Ok(slurm.submit(&path, &args.sbatch)?));
    let submitted = match submitted {
        Ok(submitted) => submitted,
        Err(error) => return Err(forget(&run, error)),
    };
    RunRecord::hand_to(&run.path, &submitted.job.to_string())?;
    if !submitted.notices.is_empty() {
        eprintln!("{}", submitted.notices);
    }
    told(deployment, &run, &submitted, args.json, out)
}

/// Leaves the script and the record in the run's directory.
fn write(run: &RunDir, uid: u32) -> anyhow::Result<PathBuf> {
    RunRecord::of(run, uid, None).write(&run.path)?;
    let text = script(&run.deployment, &run.path, &this_program()?, named_worker())?.render()?;
    let path = run.path.join(SCRIPT);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Removes what was made for a job that there isn't.
fn forget(run: &RunDir, error: anyhow::Error) -> anyhow::Error {
    let in_doubt = error.downcast_ref::<SlurmError>().is_some_and(|error| {
        matches!(error, SlurmError::TimedOut { .. } | SlurmError::Unreachable { .. })
    });
    if in_doubt {
        return error.context(format!(
            "whether Slurm took the job is not known: `squeue --me` may show it, and its files stay in {}",
            run.path.display()
        ));
    }
    // A folder that has something of others in it is not empty.
    if let Some(logs) = &run.deployment.run.log_dir {
        let _ = fs::remove_dir(logs);
    }
    let removed = fs::remove_dir_all(&run.path);
    let _ = fs::remove_dir(&run.deployment.run.dir);
    match removed {
        Ok(()) => error,
        Err(left) => error.context(format!("cannot remove {}: {left}", run.path.display())),
    }
}

fn told(
    deployment: &Deployment,
    run: &RunDir,
    submitted: &Submitted,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let job = submitted.job.to_string();
    // What is certain to be found.
    let word = match Runs::finds_in(&deployment.run.dir) {
        true => job.clone(),
        false => run.path.display().to_string(),
    };
    let next = [
        (format!("shardrun status {word}"), "how it is doing"),
        (format!("shardrun logs -f {word}"), "what it says"),
        (format!("shardrun endpoint {word} --wait 600"), "where it serves, once it does"),
        (format!("shardrun why {word}"), "why it waits, or ended"),
        (format!("shardrun cancel {word}"), "ends it"),
    ];
    if json {
        let next: Vec<_> = next.iter().map(|(command, _)| command).collect();
        let value = json!({
            "job": job,
            "run": run.id.to_string(),
            "run_dir": run.path,
            "notices": submitted.notices,
            "next": next,
        });
        return Ok(print_json(out, &value)?);
    }
    writeln!(out, "submitted {} as job {job}", deployment.name)?;
    writeln!(out, "run {}\n", run.path.display())?;
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in next {
        writeln!(out, "  {command:width$}  # {what}")?;
    }
    Ok(())
}

/// Asks Slurm, and leaves nothing.
fn dry_run(
    deployment: &Deployment,
    args: &SubmitArgs,
    slurm: &Slurm,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for model in &deployment.models {
        if let fetch::ModelState::Missing { path } =
            fetch::look(&model.source, model.sha256.as_ref())?
        {
            bail!("source of model {}: no file {}", model.name, path.display());
        }
    }
    let run = RunDir::path_of(deployment, "RUN_ID");
    let script = script(deployment, &run, &this_program()?, named_worker())?.render()?;
    let mut file = tempfile::NamedTempFile::new().context("cannot write a temporary file")?;
    file.write_all(script.as_bytes())?;
    let says = slurm.validate(file.path(), &args.sbatch)?;
    if args.json {
        let value = json!({ "run_dir": run, "script": script, "slurm_says": says });
        return Ok(print_json(out, &value)?);
    }
    writeln!(out, "{script}")?;
    out.flush()?;
    eprintln!("Slurm would take it, and nothing was submitted:\n{says}");
    Ok(())
}
