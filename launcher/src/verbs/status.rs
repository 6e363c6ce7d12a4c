//! `shardrun status`: how a run is doing.

use std::io::Write;

use serde_json::{Value, json};
use shardrun_slurm::{JobInfo, Phase, Slurm};

use super::print_json;
use crate::cli::StatusArgs;
use crate::clock::{now_unix_s, since, span};
use crate::run::{Runs, Seen, Standing};
use crate::supervisor::InstanceState;

pub(crate) fn run(args: &StatusArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let runs = Runs::of(args.run.folder.dir.as_deref())?;
    let run = runs.find(args.run.run.as_deref(), &slurm)?;
    let seen = Seen::look(run, &slurm)?;
    match args.run.json {
        true => print_json(out, &as_json(&seen))?,
        false => print(&seen, out)?,
    }
    Ok(())
}

/// A run for programs; `status` and `list` tell it alike.
pub(super) fn as_json(seen: &Seen) -> Value {
    let record = &seen.run.record;
    let state = seen.state.as_ref();
    // What was true of a run that is over is not true any more.
    let live = state.filter(|_| !seen.standing.is_over());
    json!({
        "run": record.id,
        "name": record.name,
        "run_dir": seen.run.dir,
        "created_unix_s": record.created,
        "standing": seen.standing,
        "since_unix_s": seen.since(),
        "note": seen.note(),
        "job": record.job,
        "cluster": record.cluster,
        "slurm": seen.job.info(),
        "time_left_s": seen.job.info().and_then(time_left),
        "host": state.map(|state| &state.host),
        "pid": state.map(|state| state.pid),
        "restarts": state.map(|state| state.restarts),
        "endpoint": live.and_then(|state| state.endpoint.as_ref()),
        "instances": live.map_or(&[][..], |state| &state.instances),
        "ended": state.and_then(|state| state.ended.as_ref()),
    })
}

fn print(seen: &Seen, out: &mut dyn Write) -> std::io::Result<()> {
    let mut line = |name: &str, text: &str| writeln!(out, "{name:9} {text}");
    let ago = seen.since().map_or(String::new(), |at| match seen.standing.is_over() {
        true => format!(", {} ago", since(at)),
        false => format!(" for {}", since(at)),
    });
    line(&seen.run.record.name, &format!("{}{ago}", seen.standing.as_str()))?;
    if let Some(note) = seen.note() {
        line("", &note)?;
    }
    line("run", &seen.run.dir.display().to_string())?;
    if let Some(job) = &seen.run.record.job {
        let says = seen.job.info().map_or_else(String::new, |info| format!(", {}", in_words(info)));
        line("job", &format!("{job}{says}"))?;
    }
    let Some(state) = &seen.state else { return Ok(()) };
    if state.restarts > 0 {
        line("restarts", &format!("{} of its job", state.restarts))?;
    }
    if let Some(ended) = state.ended.as_ref().filter(|_| seen.standing == Standing::Ended) {
        let how = ended.message.as_deref().unwrap_or("it was asked to end");
        line("exit code", &ended.code.to_string())?;
        for (number, text) in how.lines().enumerate() {
            line(if number == 0 { "because" } else { "" }, text)?;
        }
    }
    if seen.standing.is_over() || seen.standing == Standing::Waiting {
        return Ok(());
    }
    line("host", &format!("{}, supervisor is process {}", state.host, state.pid))?;
    if let Some(endpoint) = &state.endpoint {
        line("endpoint", &endpoint.shown())?;
        line("models", &endpoint.models.join(", "))?;
    }
    table(&state.instances, out)
}

/// A job's state in a few words.
fn in_words(info: &JobInfo) -> String {
    let nodes = info.nodes.as_deref().map_or(String::new(), |nodes| format!(" on {nodes}"));
    let reason = || info.reason.as_deref().filter(|reason| *reason != "None");
    let mut words = match info.state.phase() {
        Phase::Waiting => match reason() {
            Some(reason) => format!("waits in the queue ({reason})"),
            None => "waits in the queue".to_owned(),
        },
        Phase::Running => format!("runs{nodes}"),
        Phase::Stopped => format!("stands still{nodes} ({})", info.state),
        Phase::Ending => format!("is ending{nodes}"),
        Phase::Final => format!("is over ({})", info.state),
        Phase::Unknown => format!("is in the state {}", info.state),
    };
    if let Some(partition) = info.partition.as_deref().filter(|_| info.state.is_waiting()) {
        words.push_str(&format!(", partition {partition}"));
    }
    if let Some(left) = time_left(info) {
        words.push_str(&format!(", {} left", span(left)));
    }
    words
}

/// Seconds until Slurm ends a job that runs.
fn time_left(info: &JobInfo) -> Option<u64> {
    let has = matches!(info.state.phase(), Phase::Running | Phase::Stopped);
    let limited = info.time_limit.and_then(shardrun_slurm::TimeLimit::duration).is_some();
    info.end_unix_s.filter(|_| has && limited).map(|end| end.saturating_sub(now_unix_s()))
}

fn table(instances: &[InstanceState], out: &mut dyn Write) -> std::io::Result<()> {
    let heading =
        ["instance", "is", "restarts", "rank", "host", "pid", "rank is"].map(str::to_owned);
    let mut rows = vec![heading];
    for (name, instance) in named(instances) {
        let mut first = Some([name, instance.state.clone(), instance.restarts.to_string()]);
        for rank in &instance.ranks {
            let [name, state, restarts] = first.take().unwrap_or_default();
            let (number, pid) = (rank.rank.to_string(), rank.pid.to_string());
            let (host, is) = (rank.host.clone(), rank.state.clone());
            rows.push([name, state, restarts, number, host, pid, is]);
        }
        if let Some([name, state, restarts]) = first {
            let none = String::new;
            rows.push([name, state, restarts, none(), none(), none(), none()]);
        }
    }
    if rows.len() == 1 {
        return Ok(());
    }
    writeln!(out)?;
    super::table(&rows, out)
}

/// Instances with their names, `MODEL.N` with N counting those of the model.
pub(super) fn named(instances: &[InstanceState]) -> impl Iterator<Item = (String, &InstanceState)> {
    instances.iter().enumerate().map(|(at, instance)| {
        let before = instances[..at].iter().filter(|other| other.model == instance.model);
        (format!("{}.{}", instance.model, before.count()), instance)
    })
}
