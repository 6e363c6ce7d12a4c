//! What ends this process when MPI would not: MPI_Comm_spawn returns neither when a rank can't be started
//! on some node, nor when one dies before it is part of MPI.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{Pid, dup2_stderr, getppid, pipe2};

use crate::cli::Cli;
use crate::spawn::what;

/// How often it looks around.
const LOOK: Duration = Duration::from_millis(100);
/// How long what was said last takes to be passed on, and how long the ranks' own word on their end, which
/// says more, may take to reach the supervisor.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// By which words MPI's daemons, or the shell that becomes a rank, say that ranks do not come to be.
const REFUSALS: [&str; 5] = [
    " has no program ",
    "was unable to launch",
    "was unable to start",
    "the job has been aborted",
    "noticed that process rank",
];

/// Watches over a spawn, and passes on what MPI's daemons say meanwhile.
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    supervisor: Pid,
    /// Where what is said on standard error goes.
    terminal: File,
    /// Whether all ranks run.
    spawned: AtomicBool,
    refused: AtomicBool,
    scratch: Option<PathBuf>,
    wdir: Option<String>,
}

impl Watch {
    /// # Errors
    /// If this process can get neither pipes nor threads.
    pub(crate) fn begin(cli: &Cli, supervisor: Pid) -> anyhow::Result<Self> {
        let terminal = std::io::stderr().as_fd().try_clone_to_owned();
        let shared = Arc::new(Shared {
            supervisor,
            terminal: terminal.context("cannot duplicate standard error")?.into(),
            spawned: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            scratch: cli.scratch.clone(),
            wdir: cli.wdir.clone(),
        });
        let (said, stderr) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        dup2_stderr(stderr).context("cannot redirect standard error")?;
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let pump = shared.clone();
        thread("stderr").spawn(move || pump.pass_on(said.into()))?;
        let (clock, what) = (shared.clone(), what(cli));
        let longest = cli.timeout_ms.map(Duration::from_millis);
        thread("clock").spawn(move || clock.keep_time(longest, &what))?;
        Ok(Self { shared })
    }

    /// The ranks run: waits until the supervisor is gone.
    pub(crate) fn until_left_alone(self) -> ExitCode {
        self.shared.spawned.store(true, Ordering::Relaxed);
        // MPI's daemon for the ranks ends with this process, and the ranks, whose lifelines tell them of
        // the supervisor's end, with that.
        while !self.shared.is_alone() {
            std::thread::sleep(LOOK);
        }
        self.shared.remove_scratch();
        ExitCode::SUCCESS
    }

    /// The ranks do not run, and why.
    pub(crate) fn give_up(self, why: &str) -> ExitCode {
        std::thread::sleep(LAST_WORDS);
        self.shared.say(why);
        ExitCode::FAILURE
    }
}

impl Shared {
    fn pass_on(&self, said: File) {
        let mut said = BufReader::new(said);
        let mut line = Vec::new();
        while said.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            // Nobody may read it any more; what writes here must not block all the same.
            let _ = (&self.terminal).write_all(&line);
            let text = String::from_utf8_lossy(&line);
            if REFUSALS.iter().any(|words| text.contains(words)) {
                self.refused.store(true, Ordering::Relaxed);
            }
            line.clear();
        }
    }

    /// Ends this process if the spawn takes too long, can't be, or nobody waits for it.
    fn keep_time(&self, longest: Option<Duration>, what: &str) {
        let began = Instant::now();
        while !self.spawned.load(Ordering::Relaxed) {
            if self.is_alone() {
                self.remove_scratch();
                exit();
            }
            if self.refused.load(Ordering::Relaxed) {
                std::thread::sleep(LAST_WORDS);
                if self.spawned.load(Ordering::Relaxed) {
                    return;
                }
                self.say(&format!("MPI could not start {what}"));
                exit();
            }
            if let Some(longest) = longest.filter(|&longest| began.elapsed() >= longest) {
                let folder = self.wdir.as_deref().map_or_else(String::new, |wdir| {
                    format!("; it says nothing where a node has no folder {wdir}")
                });
                self.say(&format!(
                    "MPI did not start {what} within {longest:?} (launch.ready_timeout_ms){folder}"
                ));
                exit();
            }
            std::thread::sleep(LOOK);
        }
    }

    fn is_alone(&self) -> bool {
        getppid() != self.supervisor
    }

    fn say(&self, words: &str) {
        let _ = (&self.terminal).write_all(format!("shardrun-spawn: {words}\n").as_bytes());
    }

    fn remove_scratch(&self) {
        if let Some(scratch) = &self.scratch {
            // What can't be removed is in the run's directory, and goes with that.
            let _ = std::fs::remove_dir_all(scratch);
        }
    }
}

/// Ends this process at once: the other thread is in MPI, whose own way out would wait for that.
fn exit() -> ! {
    // SAFETY: it takes no pointers and does not return; nothing of this process is left half written.
    unsafe { libc::_exit(1) }
}
