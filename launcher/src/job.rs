//! The Slurm job that this process is in.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use shardrun_config::{AtTimeLimit, Slurm as SlurmKeys};
use shardrun_slurm::{Allocation, JobId, Slurm};

use crate::run::RunRecord;
use crate::supervisor::{Event, JobEnd};

/// Time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two questions for the job's end.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// What ending takes after the last request: ranks leave, Slurm is told what follows.
const MARGIN: Duration = Duration::from_secs(15);

/// The script of a submitted run, in its directory.
pub(crate) const SCRIPT: &str = "job.sbatch";

/// The job, and how Slurm is asked about it.
#[derive(Debug)]
pub(crate) struct InJob {
    allocation: Allocation,
    slurm: Slurm,
}

impl InJob {
    /// The job of this process's environment, if that has one with nodes.
    pub(crate) fn find() -> anyhow::Result<Option<Self>> {
        let allocation = Allocation::read(|name| std::env::var(name).ok())
            .context("cannot make sense of the Slurm job that this process is in")?;
        Ok(allocation.map(|allocation| Self { allocation, slurm: Slurm::new() }))
    }

    pub(crate) fn id(&self) -> &JobId {
        &self.allocation.job
    }

    pub(crate) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// How often it was started before.
    pub(crate) fn restarts(&self) -> u32 {
        self.allocation.restart_count
    }

    /// Takes the run in `run` over from whoever made it, or from the job before.
    ///
    /// # Errors
    /// If it was started again too often, or can't be followed by another job as it is to be.
    pub(crate) fn take_over(&self, keys: &SlurmKeys, run: &Path) -> anyhow::Result<()> {
        let record = RunRecord::hand_to(run, self.id())?;
        let times = self.restarts() + record.successors;
        if times > keys.max_requeues {
            bail!(
                "{} was started again {times} times, as job {} at last; slurm.max_requeues is {}",
                record.name,
                self.id(),
                keys.max_requeues
            );
        }
        if keys.at_time_limit == AtTimeLimit::Successor && !run.join(SCRIPT).exists() {
            bail!(
                "slurm.at_time_limit is \"successor\", and only what `shardrun submit` has submitted has a \
                 script to submit again; let it be \"end\" or \"requeue\" here"
            );
        }
        Ok(())
    }

    /// Why and when the job will be ended, as Slurm says now. It doesn't say when a job without a limit is
    /// preempted.
    fn end(&self) -> Option<(JobEnd, Option<SystemTime>)> {
        let info = self.slurm.show(&self.allocation.job).ok()?;
        let why = match info.preempt_unix_s {
            Some(_) => JobEnd::Preempted,
            None => JobEnd::TimeLimit,
        };
        Some((why, info.end_unix_s.map(unix)))
    }

    /// Says when the time limit is near. Slurm says so, too, by a signal, where it was asked to; versions
    /// differ in how reliably.
    pub(crate) fn watch_the_clock(
        self: &Arc<Self>,
        keys: &SlurmKeys,
        events: Sender<Event>,
    ) -> anyhow::Result<()> {
        let told = self.allocation.end_unix_s.map(unix);
        let Some(mut ends) = told.or_else(|| self.end()?.1) else { return Ok(()) };
        let before = Duration::from_secs(keys.drain_before_s.into());
        let job = self.clone();
        std::thread::Builder::new().name("time-limit".into()).spawn(move || {
            let mut asked = Instant::now();
            loop {
                let near = SystemTime::now() + before >= ends;
                if near || asked.elapsed() > ASK_AGAIN {
                    asked = Instant::now();
                    // Limits are changed while jobs run.
                    let now = job.end().and_then(|(_, now)| now).unwrap_or(ends);
                    if near && now <= ends {
                        break;
                    }
                    ends = now;
                }
                std::thread::sleep(LOOK);
            }
            let _ = events.send(job_ends(JobEnd::TimeLimit, Some(ends)));
        })?;
        Ok(())
    }

    /// Slurm has given its warning: says of what.
    pub(crate) fn warned(self: &Arc<Self>, events: Sender<Event>) {
        self.ask(move |end| {
            // It was asked to warn of the time limit.
            let (why, ends) = end.unwrap_or((JobEnd::TimeLimit, None));
            let _ = events.send(job_ends(why, ends));
        });
    }

    /// A rank was asked to end: says so if the whole job is.
    pub(crate) fn look_for_preemption(self: &Arc<Self>, events: Sender<Event>) {
        self.ask(move |end| {
            if let Some((JobEnd::Preempted, ends)) = end {
                let _ = events.send(job_ends(JobEnd::Preempted, ends));
            }
        });
    }

    fn ask(
        self: &Arc<Self>,
        then: impl FnOnce(Option<(JobEnd, Option<SystemTime>)>) + Send + 'static,
    ) {
        let job = self.clone();
        // Without the thread the job ends as Slurm ends it.
        let _ = std::thread::Builder::new().name("job".into()).spawn(move || then(job.end()));
    }

    /// Gives the job back to the queue if it is to be started again after preemption or the loss of a
    /// node.
    pub(crate) fn requeue_after(
        &self,
        why: &str,
        keys: &SlurmKeys,
        run: &Path,
    ) -> anyhow::Result<()> {
        if keys.requeue && self.may_start_again(keys, &RunRecord::of_run(run)?) {
            self.slurm.requeue(&self.allocation.job)?;
            eprintln!("{why}: job {} goes back to the queue", self.id());
        }
        Ok(())
    }

    /// Whether it was not started too often yet; says so if it was.
    fn may_start_again(&self, keys: &SlurmKeys, record: &RunRecord) -> bool {
        let (most, times) = (keys.max_requeues, self.restarts() + record.successors);
        if times >= most {
            eprintln!("not started again: slurm.max_requeues is {most}, and it was {times} times");
        }
        times < most
    }

    /// What follows a job that has drained because its time limit was near.
    pub(crate) fn after_time_limit(&self, keys: &SlurmKeys, run: &Path) -> anyhow::Result<()> {
        if keys.at_time_limit == AtTimeLimit::End {
            return Ok(());
        }
        let record = RunRecord::of_run(run)?;
        if !self.may_start_again(keys, &record) {
            return Ok(());
        }
        if keys.at_time_limit == AtTimeLimit::Requeue {
            eprintln!("the time limit is near: job {} goes back to the queue", self.id());
            return Ok(self.slurm.requeue(&self.allocation.job)?);
        }
        let mut told = record.sbatch_args;
        // The last one counts.
        told.push(format!("--dependency=afterany:{}", self.id()));
        let submitted = self.slurm.submit(&run.join(SCRIPT), &told);
        let submitted = submitted.context("submitting the job that is to follow")?;
        RunRecord::hand_to(run, &submitted.job)?;
        eprintln!("the time limit is near: job {} follows", submitted.job);
        Ok(())
    }
}

fn unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Requests may run until shortly before the end.
fn job_ends(why: JobEnd, ends: Option<SystemTime>) -> Event {
    let left = ends.map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
    let until = left.map(|left| Instant::now() + (left - MARGIN.min(left / 4)));
    Event::JobEnds { why, until }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use shardrun_config::Deployment;

    use super::*;

    fn keys(more: &str) -> SlurmKeys {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
        Deployment::from_resolved_toml(&text).unwrap().slurm
    }

    /// A run's directory with a script, and an sbatch that numbers jobs from 8 and keeps its arguments.
    fn site(sbatch_args: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sbatch");
        // Written by a process of its own: no child of another test then holds it open for writing.
        let script =
            "#!/bin/sh\ncd \"${0%/*}\"\necho \"$@\" >> told\necho $((7 + $(wc -l < told)))\n";
        let written = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$2\"", "sh", script])
            .arg(&path)
            .status();
        assert!(written.unwrap().success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join(SCRIPT), "").unwrap();
        let record = RunRecord {
            id: "i".into(),
            name: "d".into(),
            uid: 1,
            created: 1,
            shm_prefix: String::new(),
            job: Some("7".into()),
            sbatch_args: sbatch_args.iter().map(|word| (*word).to_owned()).collect(),
            successors: 0,
            cluster: None,
        };
        record.write(folder.path()).unwrap();
        folder
    }

    fn in_job(folder: &Path, job: &str, restarts: u32) -> InJob {
        let get = |name: &str| match name {
            "SLURM_JOB_ID" => Some(job.to_owned()),
            "SLURM_RESTART_COUNT" => Some(restarts.to_string()),
            _ => None,
        };
        let allocation = Allocation::read(get).unwrap().unwrap();
        InJob { allocation, slurm: Slurm::new().with_programs_in(folder) }
    }

    #[test]
    fn jobs_follow_each_other_as_the_first_was_submitted_and_only_so_often() {
        let site = site(&["--account=x", "-p", "gpu"]);
        let run = site.path();
        let keys = keys("slurm.at_time_limit = \"successor\"\nslurm.max_requeues = 2");
        let job = || RunRecord::of_run(run).unwrap().job.unwrap();
        for _ in 0..4 {
            // A new job knows of no restart.
            let now = in_job(run, &job(), 0);
            now.take_over(&keys, run).unwrap();
            now.after_time_limit(&keys, run).unwrap();
        }
        let script = run.join(SCRIPT).display().to_string();
        let line = |after: u32| {
            format!("--parsable --account=x -p gpu --dependency=afterany:{after} {script}\n")
        };
        assert_eq!(std::fs::read_to_string(run.join("told")).unwrap(), line(7) + &line(8));
        assert_eq!((job().as_str(), RunRecord::of_run(run).unwrap().successors), ("9", 2));
    }

    #[test]
    fn restarts_count_as_successors_do() {
        let site = site(&[]);
        let keys = keys("slurm.at_time_limit = \"successor\"\nslurm.max_requeues = 2");
        in_job(site.path(), "7", 2).after_time_limit(&keys, site.path()).unwrap();
        assert!(!site.path().join("told").exists());
        // Of a job that its predecessor was not told of.
        let error = in_job(site.path(), "8", 2).take_over(&keys, site.path()).unwrap_err();
        assert!(error.to_string().contains("started again 3 times, as job 8 at last"), "{error}");
    }

    #[test]
    fn only_a_submitted_run_has_a_successor() {
        let site = site(&[]);
        std::fs::remove_file(site.path().join(SCRIPT)).unwrap();
        let job = in_job(site.path(), "7", 0);
        job.take_over(&keys(""), site.path()).unwrap();
        let keys = keys("slurm.at_time_limit = \"successor\"");
        let error = job.take_over(&keys, site.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("slurm.at_time_limit is \"successor\", and only what"),
            "{error}"
        );
    }
}
