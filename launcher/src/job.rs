//! The Slurm job that this process is in.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use shardrun_config::{AtTimeLimit, Slurm as SlurmKeys};
use shardrun_slurm::{Allocation, Slurm};

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

    pub(crate) fn id(&self) -> String {
        self.allocation.job.to_string()
    }

    pub(crate) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// How often it was started before.
    pub(crate) fn restarts(&self) -> u32 {
        self.allocation.restart_count
    }

    /// # Errors
    /// If it was started again too often.
    pub(crate) fn check_restarts(&self, keys: &SlurmKeys) -> anyhow::Result<()> {
        if self.restarts() > keys.max_requeues {
            bail!(
                "job {} was started again {} times; slurm.max_requeues is {}",
                self.id(),
                self.restarts(),
                keys.max_requeues
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
    /// node: says so, or why not.
    pub(crate) fn requeue_after(&self, why: &str, keys: &SlurmKeys) {
        if !keys.requeue {
            return;
        }
        let id = self.id();
        if self.restarts() >= keys.max_requeues {
            return self.say_no_more(keys);
        }
        match self.slurm.requeue(&self.allocation.job) {
            Ok(()) => eprintln!("{why}: job {id} goes back to the queue"),
            Err(error) => eprintln!("{why}: job {id} can't go back to the queue: {error}"),
        }
    }

    fn say_no_more(&self, keys: &SlurmKeys) {
        let (most, times) = (keys.max_requeues, self.restarts());
        eprintln!("not started again: slurm.max_requeues is {most}, and it was {times} times");
    }

    /// What follows a job that has drained because its time limit was near.
    pub(crate) fn after_time_limit(&self, keys: &SlurmKeys, run: &Path) -> anyhow::Result<()> {
        match keys.at_time_limit {
            AtTimeLimit::End => Ok(()),
            _ if self.restarts() >= keys.max_requeues => {
                self.say_no_more(keys);
                Ok(())
            }
            AtTimeLimit::Requeue => {
                eprintln!("the time limit is near: job {} goes back to the queue", self.id());
                Ok(self.slurm.requeue(&self.allocation.job)?)
            }
            AtTimeLimit::Successor => {
                let after = format!("--dependency=afterany:{}", self.id());
                let submitted = self.slurm.submit(&run.join(SCRIPT), &[after])?;
                RunRecord::hand_to(run, &submitted.job.to_string())?;
                eprintln!("the time limit is near: job {} follows", submitted.job);
                Ok(())
            }
        }
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
