//! `shardrun clean`: what ended runs left is removed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;
use shardrun_config::Deployment;
use shardrun_slurm::Slurm;

use super::print_json;
use crate::cli::CleanArgs;
use crate::clock::now_unix_s;
use crate::job::SCRIPT;
use crate::run::{JobSays, Run, Runs, Seen, Standing};

/// A run is made before its job is submitted or its supervisor has written its first word.
const BEING_MADE_S: u64 = 600;

pub(crate) fn run(args: &CleanArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let runs = Runs::of(args.folder.dir.as_deref())?;
    let mut done = Cleaned { dry_run: args.dry_run, ..Cleaned::default() };
    if let Some(word) = &args.run {
        let run = runs.find(Some(word), &slurm)?;
        run.check_own()?;
        let seen = Seen::look(run, &slurm)?;
        if let Some(why) = keep(&seen)? {
            bail!("{} stays: {why}", seen.run.label());
        }
        done.removed.push(remove(&seen.run, args.dry_run)?);
    } else {
        let oldest = args.older_than.map(|days| now_unix_s().saturating_sub(days * 86_400));
        let all = runs.all()?;
        let user = nix::unistd::getuid().to_string();
        let says = JobSays::of_all(&all, &user, &slurm);
        for (run, says) in all.into_iter().zip(says) {
            let label = run.label();
            let seen = Seen::with_job(run, says)?;
            let ended = seen.since().unwrap_or(seen.run.record.created);
            if oldest.is_some_and(|oldest| ended > oldest) {
                continue;
            }
            match in_doubt(&seen).map_or_else(|| keep(&seen), |why| Ok(Some(why)))? {
                Some(why) => done.kept.push(Kept { run: label, why }),
                None => match remove(&seen.run, args.dry_run) {
                    Ok(removed) => done.removed.push(removed),
                    // The others can go all the same.
                    Err(error) => done.kept.push(Kept { run: label, why: format!("{error:#}") }),
                },
            }
        }
    }
    match args.json {
        true => print_json(out, &done)?,
        false => done.print(runs.folder(), out)?,
    }
    Ok(())
}

#[derive(Debug, Default, Serialize)]
struct Cleaned {
    dry_run: bool,
    removed: Vec<Removed>,
    kept: Vec<Kept>,
}

#[derive(Debug, Serialize)]
struct Removed {
    run: String,
    run_dir: PathBuf,
    /// Names in shared memory.
    shared_memory: Vec<String>,
    /// Files of the run that are where the deployment put them, and stay.
    left: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Kept {
    run: String,
    why: String,
}

/// Why a run stays unless it is named: Slurm may have its job in the queue.
fn in_doubt(seen: &Seen) -> Option<String> {
    let unknown = seen.job == JobSays::NoJob && seen.standing == Standing::NeverStarted;
    (unknown && seen.run.dir.join(SCRIPT).exists()).then(|| {
        let dir = seen.run.dir.display();
        format!(
            "whether Slurm took its job is not known: see `squeue --me --format=\"%i %T %o\"`; if its \
             script is not there, `shardrun clean {dir}` removes it"
        )
    })
}

/// Why a run must stay: it may live.
fn keep(seen: &Seen) -> anyhow::Result<Option<String>> {
    if let JobSays::Elsewhere { .. } = seen.job {
        return Ok(seen.note());
    }
    if seen.unreadable.is_some() && !seen.standing.is_over() && !seen.run.is_submitted() {
        let note = seen.note().unwrap_or_default();
        let dir = seen.run.dir.display();
        return Ok(Some(format!("{note}; if nothing of it runs, remove {dir} yourself")));
    }
    if !seen.standing.is_over() {
        let clause = seen.standing.clause();
        return Ok(Some(match seen.note() {
            Some(note) => format!("it {clause}; {note}"),
            None => format!("it {clause}; `shardrun cancel` ends it"),
        }));
    }
    if seen.run.is_submitted() && !seen.job.is_over() {
        let note = seen.note().unwrap_or_else(|| "its job is not over".to_owned());
        return Ok(Some(note));
    }
    let age = now_unix_s().saturating_sub(seen.run.record.created);
    if seen.standing == Standing::NeverStarted && seen.job == JobSays::NoJob && age < BEING_MADE_S {
        return Ok(Some(format!("it was made {age} s ago and may be about to start")));
    }
    let ranks = seen.ranks_here()?;
    let alive: Vec<_> =
        ranks.iter().map(|(rank, pid)| format!("rank {rank} (pid {pid})")).collect();
    Ok((!alive.is_empty()).then(|| format!("these still run: {}", alive.join(", "))))
}

fn remove(run: &Run, dry_run: bool) -> anyhow::Result<Removed> {
    // Only what nobody holds: a prefix that the deployment chose may be that of another run, too.
    let prefix = &run.record.shm_prefix;
    let shared_memory = match dry_run {
        true => shardrun_shm::abandoned(prefix)?,
        false => shardrun_shm::sweep(prefix)?,
    };
    let left = outside(run);
    if !dry_run {
        fs::remove_dir_all(&run.dir)
            .with_context(|| format!("cannot remove {}", run.dir.display()))?;
    }
    Ok(Removed { run: run.label(), run_dir: run.dir.clone(), shared_memory, left })
}

/// Where the deployment has files of the run outside its directory.
fn outside(run: &Run) -> Vec<PathBuf> {
    let text = fs::read_to_string(run.dir.join("deployment.toml")).unwrap_or_default();
    // What can't be read any more is no reason to keep the rest.
    let Ok(deployment) = Deployment::from_resolved_toml(&text) else { return Vec::new() };
    let logs = deployment.run.log_dir.filter(|dir| !dir.starts_with(&run.dir) && dir.exists());
    logs.into_iter().chain(deployment.slurm.output.map(PathBuf::from)).collect()
}

impl Cleaned {
    fn print(&self, folder: &Path, out: &mut dyn Write) -> std::io::Result<()> {
        let verb = if self.dry_run { "would remove" } else { "removed" };
        for Removed { run_dir, shared_memory, left, .. } in &self.removed {
            writeln!(out, "{verb} {}", run_dir.display())?;
            for name in shared_memory {
                writeln!(out, "{verb} /dev/shm/{name}")?;
            }
            for path in left {
                writeln!(out, "left {}, where the deployment put it", path.display())?;
            }
        }
        for Kept { run, why } in &self.kept {
            writeln!(out, "kept {run}: {why}")?;
        }
        if self.removed.is_empty() && self.kept.is_empty() {
            writeln!(out, "nothing to remove in {}", folder.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;
    use nix::unistd::getuid;
    use shardrun_config::RunDir;
    use shardrun_slurm::{JobId, JobInfo, JobState};

    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::nodes;
    use crate::run::{Ended, RunRecord, RunStage, StateFile};

    /// A run that this process, which is no `shardrun`, says it supervises.
    fn made(folder: &std::path::Path) -> Run {
        let text = format!(
            "name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"{}\"\nrun.log_dir = \"{}\"\n",
            folder.join("runs").display(),
            folder.join("logs").display()
        );
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let uid = getuid().as_raw();
        let dir = RunDir::create(&deployment, &["/m".into()], uid).unwrap();
        RunRecord::of(&dir, uid, None).write(&dir.path).unwrap();
        Run::open(&dir.path).unwrap().unwrap()
    }

    fn cleaned(folder: &std::path::Path, dry_run: bool) -> String {
        let dir = folder.join("runs").display().to_string();
        let mut line = vec!["shardrun", "clean", "--all-ended", "--dir", &dir];
        line.extend(dry_run.then_some("--dry-run"));
        let Verb::Clean(args) = Cli::try_parse_from(line).unwrap().verb else {
            panic!("not clean");
        };
        let mut out = Vec::new();
        super::run(&args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_whose_job_is_not_known_stays_until_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let run = made(folder.path());
        std::fs::write(run.dir.join(SCRIPT), "").unwrap();
        RunRecord { created: 1, ..run.record.clone() }.write(&run.dir).unwrap();
        let said = cleaned(folder.path(), false);
        assert!(
            said.contains("whether Slurm took its job is not known") && run.dir.exists(),
            "{said}"
        );
        let dir = run.dir.display().to_string();
        let Verb::Clean(args) = Cli::try_parse_from(["shardrun", "clean", &dir]).unwrap().verb
        else {
            panic!("not clean");
        };
        super::run(&args, &mut Vec::new()).unwrap();
        assert!(!run.dir.exists());
    }

    #[test]
    fn ended_runs_go_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let new = made(folder.path());
        let said = cleaned(folder.path(), false);
        assert!(said.contains("may be about to start") && new.dir.exists(), "{said}");

        let elsewhere = made(folder.path());
        let mut file = StateFile::begin(&elsewhere.dir, "another-node".into(), None, 0).unwrap();
        file.update(|state| state.stage = RunStage::Serving);
        let ended = made(folder.path());
        let mut file = StateFile::begin(&ended.dir, "another-node".into(), None, 0).unwrap();
        file.update(|state| {
            state.stage = RunStage::Ended;
            state.ended = Some(Ended { code: 0, message: None });
        });

        let said = cleaned(folder.path(), true);
        assert!(said.contains(&format!("would remove {}", ended.dir.display())), "{said}");
        assert!(ended.dir.exists());
        let said = cleaned(folder.path(), false);
        assert!(said.contains(&format!("removed {}", ended.dir.display())), "{said}");
        assert!(said.contains("only on another-node can be seen"), "{said}");
        assert!(said.contains("logs, where the deployment put it"), "{said}");
        assert!(!ended.dir.exists() && elsewhere.dir.exists() && new.dir.exists());
    }

    #[test]
    fn a_dry_run_names_what_a_real_one_removes() {
        use shardrun_shm::Segment;

        let folder = tempfile::tempdir().unwrap();
        let run = made(folder.path());
        let prefix = run.record.shm_prefix.clone();
        let held = Segment::create(&format!("{prefix}0_held"), 64).unwrap();
        let dead = format!("{prefix}0_mpi");
        std::fs::create_dir(format!("/dev/shm/{dead}")).unwrap();

        let would = remove(&run, true).unwrap().shared_memory;
        assert_eq!(would, [dead]);
        assert_eq!(remove(&run, false).unwrap().shared_memory, would);
        drop(held);
    }

    #[test]
    fn a_state_that_cannot_be_read_breaks_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let broken = made(folder.path());
        std::fs::write(broken.dir.join("state.json"), "").unwrap();
        let ended = made(folder.path());
        let mut file = StateFile::begin(&ended.dir, "another-node".into(), None, 0).unwrap();
        file.update(|state| state.ended = Some(Ended { code: 0, message: None }));
        let said = cleaned(folder.path(), false);
        assert!(said.contains(&format!("removed {}", ended.dir.display())), "{said}");
        assert!(said.contains("state.json is not what shardrun writes there"), "{said}");
        assert!(broken.dir.exists());

        // Once its job is over, it is over, too.
        let job = JobInfo::new(JobId::new(9), JobState::Failed);
        std::fs::write(broken.dir.join(crate::job::SCRIPT), "").unwrap();
        let record = RunRecord { job: Some("9".into()), ..broken.record.clone() };
        let run = Run { record, ..broken };
        let seen = Seen::with_job(run.clone(), JobSays::Info(Box::new(job))).unwrap();
        assert_eq!((seen.standing, keep(&seen).unwrap()), (Standing::Killed, None));
        let seen = Seen::with_job(run, JobSays::Silent("no answer".into())).unwrap();
        assert_eq!(seen.standing, Standing::Unknown);
        assert!(keep(&seen).unwrap().is_some());
    }

    #[test]
    fn runs_of_another_cluster_stay() {
        let folder = tempfile::tempdir().unwrap();
        let run = made(folder.path());
        let mut file = StateFile::begin(&run.dir, nodes::host().unwrap(), None, 0).unwrap();
        file.update(|state| state.ended = Some(Ended { code: 0, message: None }));
        let record = RunRecord { job: Some("9".into()), ..run.record.clone() };
        let run = Run { record, ..run };
        let elsewhere = JobSays::Elsewhere { cluster: "west".into(), here: "east".into() };
        let seen = Seen::with_job(run, elsewhere).unwrap();
        let why = keep(&seen).unwrap().unwrap();
        let note = "its job 9 is one of the cluster west, and this machine's is east: ask on a machine of west";
        assert_eq!(why, note);
        assert!(seen.check_here().unwrap_err().to_string().ends_with(note));
    }
}
