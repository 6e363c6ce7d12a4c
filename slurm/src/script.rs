//! Batch scripts for sbatch.

mod directives;

use std::fmt::Write as _;

use crate::error::excerpt;
use crate::{SlurmError, TimeLimit};

pub use directives::directive_name;
pub(crate) use directives::{check, positive};

/// A batch script in the making. What is `None`, empty or false is left out, and Slurm's or the
/// site's own default holds. Texts are as sbatch takes them; sbatch judges what they mean.
///
/// Nothing secret belongs here: everyone on the cluster may read a job's script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// `--job-name`.
    pub job_name: Option<String>,
    /// `--partition`; several between commas.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--nodes`.
    pub nodes: Option<u32>,
    /// `--ntasks-per-node`.
    pub ntasks_per_node: Option<u32>,
    /// `--cpus-per-task`. Since Slurm 22.05 steps don't take it over: [`Srun`](crate::Srun) says it
    /// again.
    pub cpus_per_task: Option<u32>,
    /// `--gpus-per-node`: `4` or `h100:4`.
    pub gpus_per_node: Option<String>,
    /// `--gres`.
    pub gres: Option<String>,
    /// `--mem`, of each node: `64G`; `0` is all.
    pub mem: Option<String>,
    /// `--time`.
    pub time_limit: Option<TimeLimit>,
    /// `--constraint`.
    pub constraint: Option<String>,
    /// `--nodelist`.
    pub nodelist: Option<String>,
    /// `--exclude`.
    pub exclude: Option<String>,
    /// `--reservation`.
    pub reservation: Option<String>,
    /// `--exclusive`.
    pub exclusive: bool,
    /// `--output`, of errors, too; `%j` is the job. The folder must be there: without it the job fails unsaid.
    pub output: Option<String>,
    /// `--open-mode=append`, so that a requeued job doesn't erase what it wrote before.
    pub append: bool,
    /// `--requeue` or `--no-requeue`.
    pub requeue: Option<bool>,
    /// `--signal`.
    pub signal: Option<WarningSignal>,
    /// More directives, verbatim: `--mail-type=END`.
    pub extra_directives: Vec<String>,
    /// Directives that the site refuses, by name: `gpus-per-node`. They are left out.
    pub skip_directives: Vec<String>,
    /// Environment modules to load.
    pub modules: Vec<String>,
    /// Lines of shell that come before the command, verbatim.
    pub prologue: Vec<String>,
    /// Variables to export. Their values are not expanded.
    pub environment: Vec<(String, String)>,
    /// What the job runs: program and arguments, not expanded.
    pub command: Vec<String>,
    /// Whether the command takes the shell's place, and so gets the signals that the shell would get.
    pub exec: bool,
}

/// A signal that Slurm sends some time before the time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarningSignal {
    /// Its name: `USR2` or `TERM`; not `USR1`, which NCCL takes for itself.
    pub name: String,
    /// How long before the limit; Slurm may be up to a minute early.
    pub seconds: u32,
    /// Whether only the batch script gets it. Otherwise only the tasks of steps do.
    pub batch_only: bool,
}

/// How modules are found where the submitting shell had none.
const MODULE_FALLBACK: &str = "\
if ! type module >/dev/null 2>&1; then
  for init in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /usr/share/lmod/lmod/init/bash; do
    # shellcheck source=/dev/null
    if [ -r \"$init\" ]; then . \"$init\"; break; fi
  done
fi
";

/// shellcheck takes a dollar sign in single quotes for a mistake.
const NOT_EXPANDED: &str = "# shellcheck disable=SC2016\n";

impl Script {
    /// The script's text.
    ///
    /// # Errors
    ///
    /// [`SlurmError::BadValue`] with the field: a value that would break its line, a directive to skip
    /// that no script has, no command.
    pub fn render(&self) -> Result<String, SlurmError> {
        let mut text = String::from("#!/bin/bash\n");
        for directive in self.directives()? {
            text.push_str("#SBATCH ");
            text.push_str(&directive);
            text.push('\n');
        }
        text.push('\n');
        let mut words = self.environment.iter().map(|(_, value)| value).chain(&self.command);
        if words.any(|word| word.contains(['$', '`'])) {
            text.push_str(NOT_EXPANDED);
        }
        self.preparation(&mut text)?;
        for (name, value) in &self.environment {
            let assignment = format!("export {}={}\n", variable(name)?, quoted(name, value)?);
            text.push_str(&assignment);
        }
        if !self.environment.is_empty() {
            text.push('\n');
        }
        if self.command.is_empty() {
            return Err(bad("command", "", "a program and its arguments"));
        }
        let words = self.command.iter().map(|word| quoted("command", word));
        let words: Vec<_> = words.collect::<Result<_, _>>()?;
        let exec = if self.exec { "exec " } else { "" };
        writeln!(text, "{exec}{}", words.join(" ")).expect("a string takes everything");
        Ok(text)
    }

    /// Modules and prologue. They are the site's, and often read variables that are not set.
    fn preparation(&self, text: &mut String) -> Result<(), SlurmError> {
        if self.modules.is_empty() && self.prologue.is_empty() {
            text.push_str("set -euo pipefail\n\n");
            return Ok(());
        }
        text.push_str("set -eo pipefail\n");
        if !self.modules.is_empty() {
            text.push_str(MODULE_FALLBACK);
        }
        for module in &self.modules {
            check("modules", module)?;
            writeln!(text, "module load {}", quoted("modules", module)?)
                .expect("a string takes everything");
        }
        for line in &self.prologue {
            if line.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
                return Err(bad("prologue", line, "lines of shell without control characters"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str("set -u\n\n");
        Ok(())
    }
}

fn variable(name: &str) -> Result<&str, SlurmError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    match first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => Ok(name),
        false => Err(bad("environment", name, "names of letters, digits and underscores")),
    }
}

fn quoted(field: &str, word: &str) -> Result<String, SlurmError> {
    let quoted = shlex::try_quote(word).map(std::borrow::Cow::into_owned);
    quoted.map_err(|_| bad(field, word, "text without NUL"))
}

pub(crate) fn bad(field: &str, value: &str, allowed: &'static str) -> SlurmError {
    SlurmError::BadValue { field: field.to_owned(), value: excerpt(value), allowed }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
