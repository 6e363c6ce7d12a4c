//! `shardrun logs`: what a run's job, supervisor and ranks have said.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;
use shardrun_config::RunDir;
use shardrun_slurm::Slurm;

use crate::cli::LogsArgs;
use crate::logs::{Reader, Source, Wanted, sources};
use crate::run::{RunState, Runs, Seen};

/// Between two looks at files.
const LOOK: Duration = Duration::from_millis(200);
/// Between two questions to Slurm about a run that goes on, and about one that says that it has ended.
const ASK: Duration = Duration::from_secs(15);
const ASK_ENDED: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &LogsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let run = Runs::of(args.run.folder.dir.as_deref())?.find(args.run.run.as_deref(), &slurm)?;
    let deployment = RunDir::open(&run.dir)?.deployment;
    let wanted = match (&args.rank[..], &args.instance) {
        ([], None) => Wanted::Output,
        (ranks, instance) => Wanted::Ranks { ranks: ranks.to_vec(), instance: instance.clone() },
    };
    let mut watched = Watched::of(Seen::look(run, &slurm)?);
    let mut readers = BTreeMap::<PathBuf, Reader>::new();
    let mut printer = Printer { json: args.run.json, several: false, last: None, out };
    let mut first = true;
    loop {
        let over = !args.follow || watched.is_over(&slurm)?;
        let seen = &watched.seen;
        let found = sources(&seen.run, &deployment, seen.job.info(), &wanted);
        if found.is_empty() && over {
            bail!(
                "{}",
                nothing(seen, &wanted, sources(&seen.run, &deployment, None, &Wanted::all()))
            );
        }
        printer.several |= found.len() > 1;
        for source in found {
            if !readers.contains_key(&source.path) {
                // Of what appears later, everything is new.
                let lines = args.lines.filter(|_| first);
                readers.insert(source.path.clone(), Reader::open(source, lines)?);
            }
        }
        first = false;
        let mut busy = false;
        for reader in readers.values_mut() {
            busy |= reader.read(over, |source, line| printer.line(source, line))?;
        }
        printer.out.flush()?;
        if over {
            return Ok(());
        }
        if !busy {
            std::thread::sleep(LOOK);
        }
    }
}

fn nothing(seen: &Seen, wanted: &Wanted, all: Vec<Source>) -> String {
    let label = seen.run.label();
    match wanted {
        Wanted::Ranks { .. } if !all.is_empty() => {
            let there: Vec<_> = all.iter().map(Source::name).collect();
            format!("{label} has no such log; there are those of {}", there.join(", "))
        }
        _ => format!("{label} has no logs: it {}", seen.standing.clause()),
    }
}

/// A run that may end.
struct Watched {
    seen: Seen,
    asked: Instant,
}

impl Watched {
    fn of(seen: Seen) -> Self {
        Self { seen, asked: Instant::now() }
    }

    fn is_over(&mut self, slurm: &Slurm) -> anyhow::Result<bool> {
        if self.seen.standing.is_over() {
            return Ok(true);
        }
        let state = RunState::read(&self.seen.run.dir).ok().flatten();
        let ended = state.as_ref().is_some_and(|state| state.ended.is_some());
        let pause = if ended { ASK_ENDED } else { ASK };
        // A process is asked about more cheaply than a job.
        if self.seen.run.job().is_none() || self.asked.elapsed() >= pause {
            self.seen = Seen::look(self.seen.run.clone(), slurm)?;
            self.asked = Instant::now();
        }
        Ok(self.seen.standing.is_over())
    }
}

struct Printer<'a> {
    json: bool,
    several: bool,
    /// Where the last line came from.
    last: Option<PathBuf>,
    out: &'a mut dyn Write,
}

impl Printer<'_> {
    fn line(&mut self, source: &Source, line: &[u8]) -> std::io::Result<()> {
        if self.json {
            let value = json!({
                "file": source.path,
                "instance": source.instance,
                "rank": source.rank,
                "host": source.host,
                "line": String::from_utf8_lossy(line),
            });
            return writeln!(self.out, "{value}");
        }
        if self.several {
            match source.rank {
                Some(_) => write!(self.out, "[{}] ", source.name())?,
                None if self.last.as_ref() != Some(&source.path) => {
                    writeln!(self.out, "==> {} <==", source.path.display())?;
                    self.last = Some(source.path.clone());
                }
                None => {}
            }
        }
        self.out.write_all(line)?;
        self.out.write_all(b"\n")
    }
}
