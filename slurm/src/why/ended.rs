//! Why a job ended.

use super::clues::{Clue, Found, clues};
use super::limits::partition_limit;
use super::{Facts, Verdict, signal_name};
use crate::job::Exit;
use crate::memory::human;
use crate::{JobInfo, JobState, Memory};

pub(super) fn verdict(job: &JobInfo, facts: &Facts) -> Verdict {
    let found = clues(&facts.log_tail);
    let case = Case { job, facts, found: &found };
    match case.ended_by_slurm() {
        // A step that was short of memory, then or long before, is not what ended the job.
        true => case.with_memory(case.by_state()),
        false => case.out_of_memory().unwrap_or_else(|| case.by_state()),
    }
}

/// A job that ended, and what its logs say.
struct Case<'a> {
    job: &'a JobInfo,
    facts: &'a Facts,
    found: &'a [Found],
}

impl Case<'_> {
    /// Whether Slurm ended it for a reason of its own, which is its state.
    fn ended_by_slurm(&self) -> bool {
        matches!(
            self.job.state,
            JobState::Cancelled { .. }
                | JobState::Timeout
                | JobState::Deadline
                | JobState::Preempted
                | JobState::NodeFail
                | JobState::BootFail
                | JobState::Revoked
        )
    }

    /// Adds what is known of steps that ran out of memory.
    fn with_memory(&self, verdict: Verdict) -> Verdict {
        let steps = self.job.steps_out_of_memory.iter();
        let steps = steps.map(|step| format!("step {step} ran out of memory"));
        let said = self.out_of_memory_clues().map(|found| format!("its log says: {}", found.line));
        steps.chain(said).fold(verdict, Verdict::detail)
    }

    fn out_of_memory_clues(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(|found| matches!(found.clue, Clue::OutOfMemory { .. }))
    }

    fn by_state(&self) -> Verdict {
        let id = &self.job.job;
        let verdict = match &self.job.state {
            JobState::Completed => return self.completed(),
            JobState::Cancelled { by } => self.cancelled(by.as_deref()),
            JobState::Timeout => self.time_limit(),
            JobState::NodeFail => self.node_failure(),
            JobState::Preempted => {
                let verdict = Verdict::new(format!(
                    "job {id} was preempted: a job of higher priority took its nodes"
                ));
                match self.job.requeue {
                    Some(false) => verdict.advise("with --requeue Slurm starts such a job again"),
                    _ => verdict,
                }
            }
            JobState::BootFail => Verdict::new(format!("job {id} failed: its nodes did not boot"))
                .advise("submit it again, and tell those who run the cluster"),
            JobState::Deadline => {
                Verdict::new(format!("job {id} was ended at the deadline that it was given"))
            }
            JobState::Revoked => {
                Verdict::new(format!("job {id} runs on another cluster of the federation"))
            }
            _ => self.failed(),
        };
        let exit = self.job.exit.map(|exit| format!("exit code {}:{}", exit.code, exit.signal));
        let first = self.first_dead().filter(|first| !verdict.summary.contains(&first.words));
        let verdict = match first {
            Some(first) => verdict.detail(format!("first to die: {}", first.words)),
            None => verdict,
        };
        exit.into_iter().fold(verdict, Verdict::detail)
    }

    fn completed(&self) -> Verdict {
        let verdict =
            Verdict::new(format!("job {} ended by itself, without an error", self.job.job));
        let line = |found: &Found| format!("its log says: {}", found.line);
        self.found.iter().map(line).fold(verdict, Verdict::detail)
    }

    fn out_of_memory(&self) -> Option<Verdict> {
        let job = self.job;
        let said = job.state == JobState::OutOfMemory
            || job.exit.is_some_and(|exit| exit.signal == Exit::OUT_OF_MEMORY)
            || !job.steps_out_of_memory.is_empty();
        let found = self.out_of_memory_clues().next();
        // A job that went on to its end has got over it.
        if !(said || found.is_some()) || job.state == JobState::Completed {
            return None;
        }
        let (mut step, mut measured) = (job.steps_out_of_memory.first().cloned(), None);
        for found in self.out_of_memory_clues() {
            if let Clue::OutOfMemory { step: of, used_bytes, limit_bytes } = &found.clue {
                step = step.or_else(|| of.clone());
                measured = measured.or(used_bytes.zip(*limit_bytes));
            }
        }
        let id = &job.job;
        let who = step.map_or(format!("job {id}"), |step| format!("step {step} of job {id}"));
        let asked = job.memory.map(asked);
        let numbers = match (measured, &asked) {
            (Some((used, limit)), _) => {
                format!(": it used {} and was allowed {}", human(used), human(limit))
            }
            (None, Some(asked)) => format!(": it had asked for {asked}"),
            (None, None) => String::new(),
        };
        let mut verdict = Verdict::new(format!("{who} ran out of memory{numbers}"));
        if let (Some(_), Some(asked)) = (measured, asked) {
            verdict = verdict.detail(format!("the job had asked for {asked}"));
        }
        if let Some(bytes) = job.max_rss_bytes {
            verdict = verdict.detail(format!("the largest measured use was {}", human(bytes)));
        }
        if let Some(found) = found {
            verdict = verdict.detail(format!("its log says: {}", found.line));
        }
        Some(verdict.advise("ask for more memory (--mem), or let the ranks use less"))
    }

    fn cancelled(&self, by: Option<&str>) -> Verdict {
        let id = &self.job.job;
        let whom = match by {
            Some("0") => " by root".to_owned(),
            Some(by) => format!(" by the user with id {by}"),
            None => String::new(),
        };
        let when = if self.job.nodes.is_none() { " before it started" } else { "" };
        let verdict = Verdict::new(format!("job {id} was cancelled{whom}{when}"));
        match by {
            Some(_) => verdict,
            None => verdict.detail("only the accounting knows by whom"),
        }
    }

    fn time_limit(&self) -> Verdict {
        let id = &self.job.job;
        let limit = self.job.time_limit.map_or(String::new(), |limit| format!(" of {limit}"));
        let verdict = Verdict::new(format!("job {id} reached its time limit{limit} and was ended"));
        let verdict =
            verdict.advise("ask for more time (--time), or let a requeued or a new job go on");
        match partition_limit(self.job, self.facts) {
            Some(limit) => verdict.detail(limit),
            None => verdict,
        }
    }

    fn node_failure(&self) -> Verdict {
        let id = &self.job.job;
        let failed = self.found.iter().find_map(|found| match &found.clue {
            Clue::NodeFailure { node } => Some(node.clone()),
            _ => None,
        });
        let which = match (failed, &self.job.nodes) {
            (Some(node), _) => format!("node {node} failed"),
            (None, Some(nodes)) => format!("one of its nodes {nodes} failed"),
            (None, None) => "one of its nodes failed".to_owned(),
        };
        let verdict = Verdict::new(format!("job {id} was ended because {which}"));
        let verdict = verdict.detail("sinfo -R says which nodes are down, and why");
        match self.job.requeue {
            Some(true) => verdict.advise("submit it again"),
            _ => verdict.advise("submit it again; with --requeue Slurm does so by itself"),
        }
    }

    fn failed(&self) -> Verdict {
        let id = &self.job.job;
        let state = &self.job.state;
        if let Some(verdict) = self.found.iter().find_map(|found| self.of_launch(found)) {
            return verdict;
        }
        if let Some(first) = self.first_dead() {
            let verdict = Verdict::new(format!("job {id} failed: {}", first.words));
            return match first.killed {
                true => verdict.advise(
                    "if nobody killed it, the node may have run out of memory: its kernel log says so",
                ),
                false => verdict,
            };
        }
        let exit = self.job.exit.unwrap_or(Exit { code: 0, signal: 0 });
        if exit.signal == Exit::SETUP {
            let output =
                self.job.stdout.as_deref().map_or(String::new(), |path| format!(" {path}"));
            return Verdict::new(format!("Slurm could not set up the batch script of job {id}"))
                .detail(format!("mostly its output file{output} cannot be opened on the node"))
                .advise("see that the output's folder exists on the nodes and can be written to");
        }
        if let Some(signal) = exit.killed_by().and_then(|signal| i32::try_from(signal).ok()) {
            let name = signal_name(signal);
            let verdict = Verdict::new(format!(
                "job {id} failed: its batch script or what it ran was killed by {name} ({signal})"
            ));
            return match signal {
                9 => verdict.advise("if nobody killed it, it may have run out of memory"),
                _ => verdict,
            };
        }
        if exit.code != 0 {
            let code = exit.code;
            return Verdict::new(format!(
                "job {id} failed: its batch script exited with code {code}"
            ))
            .advise("the end of its log says more");
        }
        if self.job.reason.as_deref() == Some("JobLaunchFailure") {
            return Verdict::new(format!("Slurm could not start job {id} on its nodes"))
                .advise("submit it again, and tell those who run the cluster");
        }
        Verdict::new(format!("job {id} ended in the state {state}"))
    }

    /// What kept the ranks from starting at all.
    fn of_launch(&self, found: &Found) -> Option<Verdict> {
        let id = &self.job.job;
        let verdict = match &found.clue {
            Clue::UnknownPlugin { plugin } => {
                Verdict::new(format!("job {id} failed: srun here has no MPI plugin {plugin}"))
                    .advise("choose one of those that srun --mpi=list shows")
            }
            Clue::PmiMismatch => Verdict::new(format!(
                "job {id} failed: srun's MPI plugin and the ranks' MPI library do not understand each \
                 other (PMI), so that no rank knew of the others"
            ))
            .advise(
                "choose the plugin that the MPI library was built for, mostly pmix, from those that \
                 srun --mpi=list shows",
            ),
            Clue::NoProgram { words } => {
                Verdict::new(format!("job {id} failed: a node could not start {words}"))
                    .advise("the program must be at the same path on every node")
            }
            Clue::StepRefused { words } => {
                Verdict::new(format!("job {id} failed: Slurm refused a step: {words}"))
            }
            _ => return None,
        };
        Some(verdict.detail(format!("its log says: {}", found.line)))
    }

    /// Who died first, as far as anyone says: the launcher's word on ranks goes before srun's on
    /// tasks, which it writes later.
    fn first_dead(&self) -> Option<Dead> {
        let rank = self.found.iter().find_map(|found| match &found.clue {
            Clue::RankDied { words } => {
                Some(Dead { words: words.clone(), killed: words.contains("by signal 9") })
            }
            _ => None,
        });
        let task = || {
            self.found.iter().find_map(|found| match &found.clue {
                Clue::TaskDied { node, tasks, how } => Some(Dead {
                    words: format!("task {tasks} on {node}: {how}"),
                    killed: how.starts_with("Killed"),
                }),
                _ => None,
            })
        };
        rank.or_else(task)
    }
}

/// A process that died, and whether by SIGKILL.
struct Dead {
    words: String,
    killed: bool,
}

fn asked(memory: Memory) -> String {
    match memory {
        Memory::PerNode(bytes) => format!("{} on each node", human(bytes)),
        Memory::PerCpu(bytes) => format!("{} for each CPU", human(bytes)),
        Memory::PerJob(bytes) => format!("{} in all", human(bytes)),
    }
}
