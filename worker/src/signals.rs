//! SIGTERM and SIGINT: the supervisor decides what follows; without one the leader drains, and the
//! followers wait for it.

use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tracing::info;

/// How long a clean end may take before this rank's names are removed anyway: mpirun sends SIGKILL
/// one second after it has sent SIGTERM, and then nobody could.
const BEFORE_SIGKILL: Duration = Duration::from_millis(600);

/// Keeps the signals from ending the process. To be called before any thread is started, since
/// threads inherit it.
pub(crate) fn block() -> anyhow::Result<()> {
    set().thread_block().context("cannot block SIGTERM and SIGINT")
}

/// Calls `stop` with the number of each signal that comes.
pub(crate) fn attend(stop: impl Fn(i32) + Send + 'static) -> anyhow::Result<()> {
    let attend = move || {
        while let Ok(signal) = set().wait() {
            info!("received {signal}");
            stop(signal as i32);
            std::thread::sleep(BEFORE_SIGKILL);
            crate::exit::remove_names();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(attend)?;
    Ok(())
}

fn set() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}
