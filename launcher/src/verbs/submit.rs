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
use crate::submission::{self, Demand, Told, script};
use crate::{fetch, memory, programs, progress};

pub(crate) fn run(args: &SubmitArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let told = Told::new(&deployment, &args.sbatch, |name| std::env::var(name).ok());
    let demand = Demand::of(&deployment, &told)?;
    let worker = programs::worker().with_context(|| {
        format!(
            "there is no {} beside shardrun or on PATH, and $SHARDRUN_WORKER names none; `cargo build \
             --release` makes it",
            programs::WORKER
        )
    })?;
    submission::check(&deployment, &demand, &worker)?;
    let slurm = Slurm::new();
    check_cluster(&deployment, &demand, &slurm)?;
    match args.dry_run {
        true => dry_run(&deployment, &demand, args, &slurm, out),
        false => submit(&deployment, &demand, args, &slurm, out),
    }
}

/// Finds what Slurm would refuse, or take and never start.
fn check_cluster(deployment: &Deployment, demand: &Demand, slurm: &Slurm) -> anyhow::Result<()> {
    for warning in demand.check(&slurm.partitions()?)?.warnings {
        eprintln!("{warning}");
    }
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

/// Finds a node that is asked for and too small for its ranks.
fn check_memory(deployment: &Deployment, demand: &Demand) -> anyhow::Result<()> {
    let Some(asked) = demand.memory() else { return Ok(()) };
    memory::check_request(deployment, &memory::footprints(deployment), demand.nodes(), asked)
}

fn submit(
    deployment: &Deployment,
    demand: &Demand,
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
    check_memory(deployment, demand)?;
    let uid = getuid().as_raw();
    let run = RunDir::create(deployment, &files, uid)?;
    // Where it can't be told, there is one cluster.
    let record = RunRecord::of(&run, uid, None).on_cluster(slurm.cluster_name().ok());
    let record = RunRecord { sbatch_args: args.sbatch.clone(), ..record };
    let path = write(&run, &record).map_err(|error| forget(&run, error))?;
    let submitted =
        slurm.submit(&path, &args.sbatch).map_err(|error| match error.is_in_doubt() {
            true => in_doubt(&run, error),
            false => forget(&run, error.into()),
        })?;
    if let Err(error) = RunRecord::hand_to(&run.path, &submitted.job) {
        // The job does it, too, when it starts.
        eprintln!("job {} is submitted, and the run doesn't know it yet: {error:#}", submitted.job);
    }
    if !submitted.notices.is_empty() {
        eprintln!("{}", submitted.notices);
    }
    told(deployment, &run, &submitted, args.json, out)
}

/// Leaves the script and the record in the run's directory.
fn write(run: &RunDir, record: &RunRecord) -> anyhow::Result<PathBuf> {
    record.write(&run.path)?;
    let text = script(&run.deployment, &run.path, &this_program()?, named_worker())?.render()?;
    let path = run.path.join(SCRIPT);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What is to be done about a job that Slurm may have taken: its run stays for it.
fn in_doubt(run: &RunDir, error: SlurmError) -> anyhow::Error {
    let dir = run.path.display();
    anyhow::Error::new(error).context(format!(
        "whether Slurm took the job is not known, so its files stay in {dir}. `squeue --me --format=\"%i %T \
         %o\"` shows it, with {SCRIPT} of that directory, if it did; once it starts, `shardrun status {dir}` \
         finds it. If it is not there, `shardrun clean {dir}` removes the files"
    ))
}

/// Removes what was made for a job that there isn't.
fn forget(run: &RunDir, error: anyhow::Error) -> anyhow::Error {
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
    demand: &Demand,
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
    check_memory(deployment, demand)?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::run::Run;

    /// What `submit` says where sbatch is this shell script, and the run that it leaves, if it leaves one.
    fn submitted(sbatch: &str) -> (Result<String, String>, Option<Run>) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // Written by a process of its own: no child of another test then holds it open for writing.
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .args([at("sbatch").as_os_str(), sbatch.as_ref()])
            .status();
        assert!(written.unwrap().success());
        fs::write(at("model"), "a model").unwrap();
        let text =
            format!("name = \"d\"\nmodel.source = {:?}\nrun.dir = {:?}\n", at("model"), at("runs"));
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let line = ["shardrun", "submit", "d.toml", "--", "-p", "gpu"];
        let Verb::Submit(args) = Cli::try_parse_from(line).unwrap().verb else {
            panic!("not submit");
        };
        let demand = Demand::of(&deployment, &Told::new(&deployment, &args.sbatch, |_| None));
        let slurm = Slurm::new().with_programs_in(folder.path());
        let mut out = Vec::new();
        let result = submit(&deployment, &demand.unwrap(), &args, &slurm, &mut out);
        let entries = fs::read_dir(at("runs")).into_iter().flatten();
        let left = entries.filter_map(|entry| Run::open(&entry.unwrap().path()).unwrap()).next();
        let script = |run: &Run| Path::new(&run.dir).join(SCRIPT).exists();
        assert!(left.as_ref().is_none_or(script));
        let said = String::from_utf8(out).unwrap();
        (result.map(|()| said).map_err(|error| format!("{error:#}")), left)
    }

    #[test]
    fn a_run_is_kept_for_a_job_that_there_may_be() {
        for sbatch in
            ["echo Submitted", "exit 1", "kill -9 $$", "echo Connection refused >&2; exit 1"]
        {
            let (said, left) = submitted(sbatch);
            let (said, left) = (said.unwrap_err(), left.unwrap());
            assert!(said.starts_with("whether Slurm took the job is not known"), "{said}");
            assert!(
                said.contains(&left.dir.display().to_string()) && said.contains("squeue"),
                "{said}"
            );
            assert_eq!(left.record.job, None);
        }
    }

    #[test]
    fn a_refused_job_leaves_nothing() {
        let (said, left) = submitted("echo 'invalid account' >&2; exit 1");
        assert_eq!(said.unwrap_err(), "Slurm refused: invalid account");
        assert_eq!(left, None);
    }

    #[test]
    fn a_submitted_run_knows_its_job_and_how_it_was_asked_for() {
        let (said, left) = submitted("echo Welcome; echo 12; echo 'You have 3 jobs'");
        assert!(said.unwrap().starts_with("submitted d as job 12\n"));
        let record = left.unwrap().record;
        assert_eq!(record.job.as_deref(), Some("12"));
        assert_eq!(record.sbatch_args, ["-p", "gpu"]);
    }
}
