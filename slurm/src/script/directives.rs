//! The `#SBATCH` lines of a script.

use super::{Script, WarningSignal, bad};
use crate::SlurmError;

/// What a text in a directive or an option may be.
const TEXT: &str = "text on one line, without control characters";

/// The directives that a script may have.
const NAMES: [&str; 20] = [
    "job-name",
    "partition",
    "account",
    "qos",
    "nodes",
    "ntasks-per-node",
    "cpus-per-task",
    "gpus-per-node",
    "gres",
    "mem",
    "time",
    "constraint",
    "nodelist",
    "exclude",
    "reservation",
    "exclusive",
    "output",
    "open-mode",
    "requeue",
    "signal",
];

/// [`NAMES`] for people.
const ALLOWED_TO_SKIP: &str = "the name of one of the extra directives, or job-name, partition, \
     account, qos, nodes, ntasks-per-node, cpus-per-task, gpus-per-node, gres, mem, time, constraint, \
     nodelist, exclude, reservation, exclusive, output, open-mode, requeue, signal";

const SIGNAL: &str = "a signal such as USR2 or TERM, 1 to 65535 seconds before the limit; not USR1, \
     which NCCL takes";

impl Script {
    /// The directives in their order, without `#SBATCH`.
    pub(super) fn directives(&self) -> Result<Vec<String>, SlurmError> {
        let texts = [
            ("job-name", &self.job_name),
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
            ("gpus-per-node", &self.gpus_per_node),
            ("gres", &self.gres),
            ("mem", &self.mem),
            ("constraint", &self.constraint),
            ("nodelist", &self.nodelist),
            ("exclude", &self.exclude),
            ("reservation", &self.reservation),
            ("output", &self.output),
        ];
        let counts = [
            ("nodes", self.nodes),
            ("ntasks-per-node", self.ntasks_per_node),
            ("cpus-per-task", self.cpus_per_task),
        ];
        let time = self.time_limit.map(|limit| limit.to_string());
        let signal = self.signal.as_ref().map(signal).transpose()?;
        let mut lines = Vec::new();
        for name in NAMES {
            let text = texts.iter().find(|(of, _)| *of == name).and_then(|(_, text)| text.as_ref());
            let count = counts.iter().find(|(of, _)| *of == name).and_then(|(_, count)| *count);
            let line = match (name, text, count) {
                (_, Some(text), _) => Some(format!("--{name}={}", value(name, text)?)),
                (_, _, Some(count)) => Some(format!("--{name}={}", positive(name, count)?)),
                ("time", ..) => time.as_ref().map(|time| format!("--time={time}")),
                ("exclusive", ..) => self.exclusive.then(|| "--exclusive".to_owned()),
                ("open-mode", ..) => self.append.then(|| "--open-mode=append".to_owned()),
                ("requeue", ..) => self.requeue.map(|requeue| match requeue {
                    true => "--requeue".to_owned(),
                    false => "--no-requeue".to_owned(),
                }),
                ("signal", ..) => signal.as_ref().map(|signal| format!("--signal={signal}")),
                _ => None,
            };
            lines.extend(line.filter(|_| !self.skips(name)));
        }
        for extra in &self.extra_directives {
            check("extra_directives", extra)?;
            if !extra.starts_with('-') {
                return Err(bad("extra_directives", extra, "options of sbatch: --mail-type=END"));
            }
            lines.extend((!self.skips(directive_name(extra))).then(|| extra.clone()));
        }
        self.check_skips()?;
        Ok(lines)
    }

    fn skips(&self, name: &str) -> bool {
        self.skip_directives.iter().any(|skipped| directive_name(skipped) == name)
    }

    /// A mistyped name would leave a refused directive in, unnoticed.
    fn check_skips(&self) -> Result<(), SlurmError> {
        let known = |skipped: &str| {
            let mut extras = self.extra_directives.iter();
            NAMES.contains(&skipped) || extras.any(|extra| directive_name(extra) == skipped)
        };
        match self.skip_directives.iter().find(|skipped| !known(directive_name(skipped))) {
            Some(unknown) => Err(bad("skip_directives", unknown, ALLOWED_TO_SKIP)),
            None => Ok(()),
        }
    }
}

/// `mail-type` of `--mail-type=END` and of `mail-type`; `C` of `-C fast`. `no-requeue` is `requeue`'s.
#[must_use]
pub fn directive_name(directive: &str) -> &str {
    let name = directive.trim_start_matches('-');
    let name = name.split(['=', ' ']).next().unwrap_or_default();
    if name == "no-requeue" { "requeue" } else { name }
}

/// A text that fits one line.
pub(crate) fn check<'a>(field: &str, text: &'a str) -> Result<&'a str, SlurmError> {
    match text.trim().is_empty() || text.chars().any(char::is_control) {
        true => Err(bad(field, text, TEXT)),
        false => Ok(text),
    }
}

/// A count that is one.
pub(crate) fn positive(field: &str, count: u32) -> Result<u32, SlurmError> {
    match count {
        0 => Err(bad(field, "0", "1 and more")),
        _ => Ok(count),
    }
}

/// A text as sbatch reads it in a directive: quotes and backslashes mean what they do in a shell, a
/// `#` begins a comment, and nothing is expanded.
fn value(field: &str, text: &str) -> Result<String, SlurmError> {
    let text = check(field, text)?;
    let plain = !text.contains(|c: char| c.is_whitespace() || "\"'\\#".contains(c));
    Ok(match plain {
        true => text.to_owned(),
        false => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    })
}

fn signal(signal: &WarningSignal) -> Result<String, SlurmError> {
    let WarningSignal { name, seconds, batch_only } = signal;
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let named = !short.is_empty() && short.bytes().all(|b| b.is_ascii_alphanumeric());
    if !named || ["USR1", "10"].contains(&short) || !(1..=65_535).contains(seconds) {
        return Err(bad("signal", &format!("{name}@{seconds}"), SIGNAL));
    }
    let whom = if *batch_only { "B:" } else { "" };
    Ok(format!("{whom}{short}@{seconds}"))
}
