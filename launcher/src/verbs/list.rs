//! `shardrun list`: this user's runs.

use std::io::Write;

use shardrun_slurm::Slurm;

use super::print_json;
use super::status::as_json;
use crate::cli::ListArgs;
use crate::clock::since;
use crate::run::{JobSays, Runs, Seen};

pub(crate) fn run(args: &ListArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = Runs::of(args.folder.dir.as_deref())?;
    let mut runs = folder.all()?;
    let total = runs.len();
    if !args.all {
        runs.truncate(args.limit);
    }
    // squeue takes a user by number, too.
    let user = nix::unistd::getuid().to_string();
    let says = JobSays::of_all(&runs, &user, &Slurm::new());
    let silent = says.iter().find_map(|says| match says {
        JobSays::Silent(why) => Some(why.clone()),
        _ => None,
    });
    let seen = runs.into_iter().zip(says).map(|(run, says)| Seen::with_job(run, says));
    let seen = seen.collect::<anyhow::Result<Vec<_>>>()?;
    if args.json {
        return Ok(print_json(out, &seen.iter().map(as_json).collect::<Vec<_>>())?);
    }
    if seen.is_empty() {
        let folder = folder.folder().display();
        eprintln!("you have no runs in {folder}; --dir names another folder (run.dir)");
        return Ok(());
    }
    let mut rows = vec![["name", "run", "job", "is", "age", "where"].map(str::to_owned)];
    rows.extend(seen.iter().map(row));
    super::table(&rows, out)?;
    out.flush()?;
    if total > seen.len() {
        eprintln!("{} more: --all shows them", total - seen.len());
    }
    for seen in seen.iter().filter(|seen| seen.unreadable.is_some()) {
        eprintln!("{}: {}", seen.run.label(), seen.note().unwrap_or_default());
    }
    if let Some(why) = silent {
        eprintln!("Slurm can't be asked about jobs: {why}");
    }
    Ok(())
}

fn row(seen: &Seen) -> [String; 6] {
    let record = &seen.run.record;
    let live = seen.state.as_ref().filter(|_| !seen.standing.is_over());
    let endpoint = live.and_then(|state| state.endpoint.as_ref());
    let place = match (endpoint, seen.job.info().filter(|_| !seen.standing.is_over()), live) {
        (Some(endpoint), ..) => endpoint.shown(),
        (None, Some(info), _) => info.nodes.clone().unwrap_or_default(),
        (None, None, Some(state)) => state.host.clone(),
        (None, None, None) => String::new(),
    };
    [
        record.name.clone(),
        record.id.clone(),
        job(seen),
        seen.standing.as_str().to_owned(),
        since(record.created),
        place,
    ]
}

/// A job, of another cluster as Slurm writes that: `12;west`.
fn job(seen: &Seen) -> String {
    let job = seen.run.record.job.clone().unwrap_or_default();
    match &seen.job {
        JobSays::Elsewhere { cluster, .. } => format!("{job};{cluster}"),
        _ => job,
    }
}
