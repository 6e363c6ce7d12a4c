//! `shardrun why`: one answer from all that is known.

use std::io::Write;

use serde_json::json;
use shardrun_config::RunDir;
use shardrun_slurm::{Facts, JobId, JobInfo, JobState, Slurm, Verdict};

use super::print_json;
use super::status::named;
use crate::cli::WhyArgs;
use crate::clock::{now_unix_s, since};
use crate::logs::{self, Wanted, last_lines, sources};
use crate::run::{Runs, Seen, Standing};

/// Lines of each log that are looked at.
const TAIL: usize = 200;
/// Lines of a log that are shown where nothing explains an end.
const SHOWN: usize = 8;

pub(crate) fn run(args: &WhyArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let word = args.run.run.as_deref();
    let found = Runs::of(args.run.folder.dir.as_deref())?.find(word, &slurm);
    let job = word.and_then(|word| word.parse::<JobId>().ok());
    let (verdict, seen) = match (found, job) {
        (Ok(run), _) => {
            let seen = Seen::look(run, &slurm)?;
            (of_run(&seen, &slurm), Some(seen))
        }
        // Of a job that shardrun knows nothing of, Slurm may know enough.
        (Err(_), Some(job)) if slurm.available() => (of_job(slurm.show(&job)?, &slurm), None),
        (Err(error), Some(job)) => {
            return Err(error.context(format!(
                "there is no Slurm on this machine that could know job {job}, and no run of it here"
            )));
        }
        (Err(error), None) => return Err(error),
    };
    if args.run.json {
        let value = json!({
            "run": seen.as_ref().map(|seen| &seen.run.record.id),
            "run_dir": seen.as_ref().map(|seen| &seen.run.dir),
            "standing": seen.as_ref().map(|seen| seen.standing),
            "job": seen.as_ref().and_then(|seen| seen.job.info()),
            "summary": verdict.summary,
            "details": verdict.details,
            "advice": verdict.advice,
        });
        return Ok(print_json(out, &value)?);
    }
    writeln!(out, "{}", verdict.summary)?;
    for detail in &verdict.details {
        writeln!(out, "  {detail}")?;
    }
    if let Some(advice) = &verdict.advice {
        writeln!(out, "what to do: {advice}")?;
    }
    Ok(())
}

/// Of a job without a run's directory.
fn of_job(mut info: JobInfo, slurm: &Slurm) -> Verdict {
    let tail = info.stdout.as_deref().map(|path| last_lines(path.as_ref(), TAIL));
    // Somebody else's output can't be read.
    let log_tail = last_start(tail.and_then(Result::ok).unwrap_or_default());
    settle(&mut info, slurm);
    let facts = facts(&info, log_tail, slurm);
    shardrun_slurm::why(&info, &facts)
}

fn of_run(seen: &Seen, slurm: &Slurm) -> Verdict {
    let log_tail = log_tail(seen);
    let ended = seen.state.as_ref().and_then(|state| state.ended.as_ref());
    let said: Vec<String> = ended
        .filter(|_| seen.standing.is_over())
        .and_then(|ended| ended.message.as_deref())
        .map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect());
    let info = seen.job.info().filter(|_| seen.run.is_submitted()).cloned();
    let Some(mut info) = info else { return without_job(seen, &said, &log_tail) };
    settle(&mut info, slurm);
    let all = said.iter().chain(&log_tail).cloned().collect();
    let mut verdict = shardrun_slurm::why(&info, &facts(&info, all, slurm));
    if let Some(line) = said.first().filter(|line| !verdict.summary.contains(line.as_str())) {
        verdict.details.push(format!("shardrun said: {line}"));
    }
    match seen.standing {
        Standing::Waiting => {}
        Standing::Killed | Standing::NeverStarted => verdict.details.extend(ends(&log_tail)),
        standing if standing.is_over() => {}
        _ => verdict.details.extend(doing(seen)),
    }
    verdict
}

/// Of a run that no job of its own can be asked about.
fn without_job(seen: &Seen, said: &[String], log_tail: &[String]) -> Verdict {
    let (label, clause) = (seen.run.label(), seen.standing.clause());
    let ended = seen.state.as_ref().and_then(|state| state.ended.as_ref());
    let mut details = Vec::new();
    let mut advice = None;
    let summary = match (seen.standing, ended, said) {
        (Standing::Ended, Some(ended), [first, rest @ ..]) => {
            details.extend(rest.iter().cloned());
            format!("{label} ended with exit code {}: {first}", ended.code)
        }
        (Standing::Ended, ..) => format!("{label} ended because it was asked to"),
        (Standing::Killed | Standing::NeverStarted | Standing::Unknown, ..) => {
            details.extend(ends(log_tail));
            if seen.standing == Standing::Killed {
                advice = Some("if nobody killed it, the machine may have run out of memory: its kernel log says so".to_owned());
            }
            format!("{label} {clause}")
        }
        _ => {
            details.extend(doing(seen));
            let ago = seen.since().map_or(String::new(), |at| format!(", for {}", since(at)));
            format!("{label} {clause}{ago}")
        }
    };
    details.splice(0..0, seen.note());
    Verdict { summary, details, advice }
}

/// The last lines of a run that could not say what it ended of.
fn ends(log_tail: &[String]) -> impl Iterator<Item = String> {
    let from = log_tail.len().saturating_sub(SHOWN);
    let lines = log_tail[from..].iter().filter(|line| !line.trim().is_empty());
    lines.map(|line| format!("its log ends: {line}"))
}

/// What its supervisor says of a run that lives.
fn doing(seen: &Seen) -> Vec<String> {
    let Some(state) = &seen.state else { return Vec::new() };
    let mut details = Vec::new();
    if let Some(endpoint) = &state.endpoint {
        details.push(format!("it serves at {}", endpoint.shown()));
    }
    for (name, instance) in named(&state.instances) {
        let again = match instance.restarts {
            0 => String::new(),
            restarts => format!(", and was started again {restarts} times"),
        };
        let loading = instance.ranks.iter().filter(|rank| rank.state == "loading").count();
        let loading = match loading {
            0 => String::new(),
            loading => format!(", {loading} of its ranks still load"),
        };
        details.push(format!("{name} is {}{loading}{again}", instance.state));
    }
    details
}

/// Adds what only the accounting knows of a job that is over.
fn settle(info: &mut JobInfo, slurm: &Slurm) {
    if !info.state.is_final() {
        return;
    }
    // Clusters without accounting are many.
    let Ok(accounted) = slurm.accounting(&info.job) else { return };
    if let JobState::Cancelled { by: Some(_) } = &accounted.state {
        info.state = accounted.state;
    }
    info.max_rss_bytes = info.max_rss_bytes.or(accounted.max_rss_bytes);
    if info.steps_out_of_memory.is_empty() {
        info.steps_out_of_memory = accounted.steps_out_of_memory;
    }
}

fn facts(info: &JobInfo, log_tail: Vec<String>, slurm: &Slurm) -> Facts {
    let limits = info.state.is_waiting() || info.state == JobState::Timeout;
    let partitions = if limits { slurm.partitions().unwrap_or_default() } else { Vec::new() };
    Facts { log_tail, partitions, now_unix_s: Some(now_unix_s()) }
}

/// The ends of a run's logs, its job's first.
fn log_tail(seen: &Seen) -> Vec<String> {
    let Ok(run) = RunDir::open(&seen.run.dir) else { return Vec::new() };
    let every = Wanted::Ranks { ranks: Vec::new(), instance: None };
    let logs = [Wanted::Output, Wanted::Starters, every]
        .iter()
        .flat_map(|wanted| sources(&seen.run, &run.deployment, seen.job.info(), wanted))
        .collect::<Vec<_>>();
    logs.iter()
        .flat_map(|log| last_start(last_lines(&log.path, TAIL).unwrap_or_default()))
        .collect()
}

/// What a log has of the last start that it tells of: what an earlier one died of was got over.
fn last_start(mut lines: Vec<String>) -> Vec<String> {
    if let Some(at) = lines.iter().rposition(|line| logs::begins_a_start(line)) {
        lines.drain(..=at);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &[&str]) -> Vec<String> {
        last_start(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn what_an_earlier_start_died_of_is_left_out() {
        let first = "rank 0 on n1 (pid 7) was killed by signal 9 (SIGKILL)";
        let last = "rank 1 on n2 (pid 8) exited with code 3";
        for mark in [
            "starting 2 ranks of demo; logs are in /runs/demo-1",
            "starting 1 rank of demo; logs are in /runs/demo-1",
            "starting it again in 1.0s",
            "=== instance 0, attempt 1 ===",
            "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-11-22T19:00:00 DUE TO JOB REQUEUE ***",
        ] {
            assert_eq!(kept(&[first, mark, last, first]), [last, first], "{mark}");
        }
        assert_eq!(kept(&[first, "starting something else", last]).len(), 3);
    }
}
