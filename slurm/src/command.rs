//! Running one of Slurm's programs to its end, for so long and no longer.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::SlurmError;

/// What a program may write; squeue of a large cluster writes a few megabytes.
const OUTPUT_LIMIT: u64 = 64 << 20;
/// The longest pause between two looks at a program that runs.
const LOOK: Duration = Duration::from_millis(20);

/// What a program wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command`, which is the program `name`, without input. A program that takes longer than
/// `timeout` is killed with all that it started: sites put scripts before Slurm's programs.
pub(crate) fn run(
    mut command: Command,
    name: &str,
    timeout: Duration,
) -> Result<Output, SlurmError> {
    let program = || name.to_owned();
    let not_started = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => SlurmError::NoProgram { program: program() },
        _ => SlurmError::Unrunnable { program: program(), source },
    };
    let lost = |source| SlurmError::Lost { program: program(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let deadline = Instant::now() + timeout;
    let mut running = Running(Some(command.spawn().map_err(not_started)?));
    let child = running.child();
    let stdout = child.stdout.take().map(reader).transpose().map_err(lost)?;
    let stderr = child.stderr.take().map(reader).transpose().map_err(lost)?;
    let late = || SlurmError::TimedOut { program: program(), seconds: timeout.as_secs() };
    let status = running.wait(deadline).map_err(lost)?.ok_or_else(late)?;
    let text = |pipe: Option<Receiver<Vec<u8>>>| {
        let Some(pipe) = pipe else { return Ok(String::new()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match pipe.recv_timeout(left) {
            Ok(bytes) if bytes.len() as u64 > OUTPUT_LIMIT => {
                Err(SlurmError::TooMuchOutput { program: program(), limit_bytes: OUTPUT_LIMIT })
            }
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(late()),
        }
    };
    Ok(Output { status, stdout: text(stdout)?, stderr: text(stderr)? })
}

/// Reads a pipe on a thread of its own, to its end or one byte beyond the limit. The pipe is then
/// closed, so that who goes on writing gets a signal.
fn reader(pipe: impl Read + Send + 'static) -> std::io::Result<Receiver<Vec<u8>>> {
    let (send, receive) = channel();
    thread::Builder::new().name("slurm-output".into()).spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth showing.
        let _ = pipe.take(OUTPUT_LIMIT + 1).read_to_end(&mut bytes);
        // Nobody receives what came too late.
        let _ = send.send(bytes);
    })?;
    Ok(receive)
}

/// A program that is killed, with its children, unless it was seen to end.
#[derive(Debug)]
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("a child is there until it has ended")
    }

    /// How it ended; `None` at the deadline.
    fn wait(&mut self, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child().try_wait()? {
                self.0 = None;
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            if let Ok(group) = i32::try_from(child.id()) {
                // It is not reaped, so the number is its own.
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout: Duration) -> Result<Output, SlurmError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, "sbatch", timeout)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn both_outputs_and_the_end_come_back() {
        let output = sh("echo out; echo err >&2; cat; exit 3", LONG).unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), ("out\n", "err\n"));
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn more_than_a_pipe_holds_is_read() {
        let output = sh("head -c 1000000 /dev/zero; head -c 300000 /dev/zero >&2", LONG).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (1_000_000, 300_000));
    }

    #[test]
    fn endless_output_is_cut_off() {
        let error = sh("exec cat /dev/zero", LONG).unwrap_err().to_string();
        assert_eq!(error, "sbatch wrote more than 67108864 bytes and was stopped");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let started = Instant::now();
        // The shell waits for a child, which would hold the pipe open.
        let error = sh("sleep 100 & echo $! ; wait", Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, SlurmError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < LONG);
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let missing = run(Command::new("/nonexistent/sbatch"), "sbatch", LONG).unwrap_err();
        assert!(missing.to_string().starts_with("sbatch was not found on PATH"), "{missing}");
        let folder = run(Command::new("/"), "sbatch", LONG).unwrap_err();
        assert!(folder.to_string().starts_with("sbatch cannot be run"), "{folder}");
    }
}
