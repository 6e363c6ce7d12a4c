//! Running a command to its end, within a time.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::spawn::spawn;
use crate::wait::until_some;

/// Runs a command to its end.
///
/// # Errors
/// If it can't be started, or doesn't end within the time: then it is killed, and the error has what
/// it has printed.
pub fn finish(mut command: Command, within: Duration) -> anyhow::Result<Output> {
    let what = format!("{command:?}");
    // Files, since what a command leaves running may keep pipes open.
    let mut stdout = tempfile::tempfile()?;
    let mut stderr = tempfile::tempfile()?;
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = spawn(command)?;
    let ended = until_some("a command to end", within, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = child.kill();
        child.wait()?;
    }
    let (stdout, stderr) = (text(&mut stdout)?, text(&mut stderr)?);
    let status = ended.with_context(|| format!("{what}:\n{stdout}{stderr}"))?;
    Ok(Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() })
}

/// Runs a command that succeeds, and gives what it has printed on standard output.
///
/// # Errors
/// As [`finish`], or if it fails: the error has what it has printed.
pub fn said(command: Command, within: Duration) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    let Output { status, stdout, stderr } = finish(command, within)?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        bail!("{status}: {what}:\n{stdout}{}", String::from_utf8_lossy(&stderr));
    }
    Ok(stdout)
}

fn text(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    // The command has moved the position that it shares.
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
