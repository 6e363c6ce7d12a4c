//! SIGTERM and SIGINT: the supervisor decides what follows; without one the leader drains, and the
//! followers wait for it. A rank that does not yet know of either ends by itself.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, raise};
use tracing::info;

/// How long a clean end may take before this rank's names are removed anyway: mpirun sends SIGKILL
/// one second after it has sent SIGTERM, and then nobody could.
const BEFORE_SIGKILL: Duration = Duration::from_millis(600);

/// Told the number of each signal that comes.
type Stop = Box<dyn Fn(i32) + Send>;

/// What is done about signals, once this rank knows.
static STOP: Mutex<Option<Stop>> = Mutex::new(None);

/// Notified when [`STOP`] is set.
static STOP_IS_SET: Condvar = Condvar::new();

/// Keeps the signals from ending the process. To be called before any thread is started, since
/// threads inherit it, and before there is anything to remove.
pub(crate) fn block() -> anyhow::Result<()> {
    set().thread_block().context("cannot block SIGTERM and SIGINT")
}

/// Begins to wait for the signals that are blocked. One that comes while nobody attends, as in
/// `MPI_Init`, which may wait for other ranks for long, ends this rank if that doesn't change soon.
pub(crate) fn wait() -> anyhow::Result<()> {
    let wait = || {
        while let Ok(signal) = set().wait() {
            info!("received {signal}");
            let stop = STOP.lock().unwrap_or_else(PoisonError::into_inner);
            let (stop, _) = STOP_IS_SET
                .wait_timeout_while(stop, BEFORE_SIGKILL, |stop| stop.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            match &*stop {
                Some(stop) => stop(signal as i32),
                None => end_by(signal),
            }
            drop(stop);
            std::thread::sleep(BEFORE_SIGKILL);
            crate::exit::remove_names();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Calls `stop` with the number of each signal that comes or has just come.
pub(crate) fn attend(stop: impl Fn(i32) + Send + 'static) {
    *STOP.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(stop));
    STOP_IS_SET.notify_one();
}

/// Ends this process as `signal` does where nobody has blocked it, which its starter then tells.
fn end_by(signal: Signal) -> ! {
    crate::exit::remove_names();
    // Should any of it fail, or the signal be ignored, the process ends all the same.
    let _ = raise(signal).and_then(|()| SigSet::from(signal).thread_unblock());
    // SAFETY: ends the process without running destructors or exit handlers: the main thread may be
    // anywhere in the MPI library.
    unsafe { libc::_exit(128 + signal as i32) }
}

fn set() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}
