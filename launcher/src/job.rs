//! The Slurm job that this process is in.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use shardrun_config::{AtTimeLimit, Slurm as SlurmKeys};
use shardrun_slurm::{Allocation, Slurm};

use crate::run::RunRecord;
use crate::supervisor::Event;

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

    /// When the job will be ended, if it has a limit.
    fn ends(&self) -> Option<SystemTime> {
        let told = self.allocation.end_unix_s;
        let asked = || self.slurm.show(&self.allocation.job).ok()?.end_unix_s;
        told.or_else(asked).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Says when the time limit is near. Slurm says so, too, by a signal, where it was asked to; versions
    /// differ in how reliably.
    pub(crate) fn watch_the_clock(
        &self,
        keys: &SlurmKeys,
        events: Sender<Event>,
    ) -> anyhow::Result<()> {
        let Some(ends) = self.ends() else { return Ok(()) };
        let near = ends - Duration::from_secs(keys.drain_before_s.into());
        std::thread::Builder::new().name("time-limit".into()).spawn(move || {
            const LOOK: Duration = Duration::from_secs(1);
            while SystemTime::now() < near {
                std::thread::sleep(LOOK);
            }
            let _ = events.send(Event::TimeLimit);
        })?;
        Ok(())
    }

    /// What follows a job that has drained because its time limit was near.
    pub(crate) fn after_time_limit(&self, keys: &SlurmKeys, run: &Path) -> anyhow::Result<()> {
        match keys.at_time_limit {
            AtTimeLimit::End => Ok(()),
            _ if self.restarts() >= keys.max_requeues => {
                eprintln!(
                    "not started again: slurm.max_requeues is {}, and it was {} times",
                    keys.max_requeues,
                    self.restarts()
                );
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
