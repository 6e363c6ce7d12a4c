//! Asking a program, for so long and no longer.

use std::ffi::OsStr;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take: on a cold network file system it takes a while to load.
const LONGEST: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// What a program said, on both of its outputs, and whether it succeeded. The error says why it said
/// nothing.
pub(super) fn ask<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: &[S],
) -> Result<(bool, String), String> {
    let name = program.as_ref().to_string_lossy().into_owned();
    let run = || {
        // A file, since what it starts may keep a pipe open.
        let mut output = tempfile::tempfile()?;
        let mut child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()?;
        let until = Instant::now() + LONGEST;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() >= until => break None,
                None => std::thread::sleep(LOOK),
            }
        };
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let mut text = Vec::new();
        output.rewind()?;
        output.read_to_end(&mut text)?;
        std::io::Result::Ok((status, String::from_utf8_lossy(&text).into_owned()))
    };
    match run() {
        Ok((Some(status), text)) => Ok((status.success(), text)),
        Ok((None, _)) => Err(format!("{name} did not end within {} s", LONGEST.as_secs())),
        Err(error) => Err(format!("{name} cannot be run: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_heard() {
        let (well, text) = ask("sh", &["-c", "echo a; echo b >&2; exit 3"]).unwrap();
        assert_eq!((well, &*text), (false, "a\nb\n"));
        let error = ask("/nonexistent/x", &[""]).unwrap_err();
        assert!(error.starts_with("/nonexistent/x cannot be run: "), "{error}");
    }
}
