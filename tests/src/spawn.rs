//! Starting programs that can't outlive the test.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Context as _;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

struct Job {
    command: Command,
    started: Sender<std::io::Result<Child>>,
}

/// Starts `command`; the system kills it should this process end first, however that happens. What
/// it starts itself is its own to end.
///
/// # Errors
/// If the system refuses.
pub(crate) fn spawn(mut command: Command) -> anyhow::Result<Child> {
    let name = format!("{}", command.get_program().display());
    // SAFETY: between fork and exec it makes one system call, and touches no memory of the parent's.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    let (started, answer) = channel();
    jobs()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(Job { command, started })
        .context("the spawning thread is gone")?;
    answer.recv()?.with_context(|| format!("cannot start {name}"))
}

/// The signal comes when the thread that forked ends, not the process: so one thread forks for all,
/// and stays.
fn jobs() -> &'static Mutex<Sender<Job>> {
    static JOBS: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for mut job in jobs {
                // A test that gave up has dropped the other end, and the child with it.
                let _ = job.started.send(job.command.spawn());
            }
        });
        Mutex::new(sender)
    })
}
