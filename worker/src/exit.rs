//! How a rank ends: 0 as told, 1 failed, 2 usage, 4 because another was lost.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shardrun_comm::CommError;
use shardrun_config::{ConfigErrors, RunDir, with_causes};
use shardrun_wire::Address;

/// The exit code of a rank that ends because another died.
const LOST_A_RANK: u8 = 4;

/// How much later than another a rank ends because of it. mpirun tells of the rank whose end it sees
/// first, and the names of a killed rank can be removed when the system has let go of them.
const AFTER_THE_FIRST: Duration = Duration::from_millis(200);

/// Target of the message that ends a rank: a supervisor shows that itself.
pub(crate) const LAST_WORDS: &str = "last_words";

/// What the names in shared memory of the whole run begin with, and those of this rank, once it has any.
static SHM_PREFIXES: OnceLock<(String, String)> = OnceLock::new();

/// The socket and the secret of a supervisor on this node.
static LEFT_BY_SUPERVISOR: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

/// Set when the watcher has ended this rank's lifeline.
static ORPHANED: AtomicBool = AtomicBool::new(false);

/// Set while errors that all ranks come to are left to rank 0 to tell.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves errors to rank 0, or takes them up again.
pub(crate) fn leave_errors_to_rank_0(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Says what to remove should this process end in the middle of something.
pub(crate) fn on_abort_remove(prefix: String, rank_prefix: String) {
    let _ = SHM_PREFIXES.set((prefix, rank_prefix));
}

/// Removes this rank's names in shared memory, and those of ranks that were killed: they can't, and
/// there may be no supervisor. What is mapped stays usable.
pub(crate) fn remove_names() {
    if let Some((prefix, rank_prefix)) = SHM_PREFIXES.get() {
        // Nothing could be done about what can't be removed; the next start sweeps it.
        let _ = shardrun_shm::remove_all(rank_prefix);
        let _ = shardrun_shm::sweep(prefix);
    }
}

/// Says what a supervisor on this node leaves behind when it is killed.
pub(crate) fn on_orphaned_remove(supervisor: &[Address], config: &Path) {
    let socket = supervisor.iter().find_map(|address| match address {
        Address::Unix(path) => Some(path.clone()),
        Address::Tcp(_) => None,
    });
    if let Some(socket) = socket {
        let _ = LEFT_BY_SUPERVISOR.set((socket, RunDir::secret_of(config)));
    }
}

/// Ends this process because its watcher is gone, or has ended its lifeline.
pub(crate) fn orphaned(reason: &str) -> ! {
    ORPHANED.store(true, Ordering::Relaxed);
    lost(reason)
}

/// Removes what a supervisor that was killed could not. Several ranks may try.
fn remove_left_by_supervisor() {
    if let Some((socket, secret)) = LEFT_BY_SUPERVISOR.get()
        && shardrun_wire::remove_dead_socket(socket)
    {
        // Not there in a run whose ranks are all on one node.
        let _ = std::fs::remove_file(secret);
    }
}

/// Makes a panic of the step thread an error like any other: unwinding would end in MPI_Finalize, which
/// waits for ranks that wait for this one. Other threads answer for themselves.
pub(crate) fn on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name() == Some("main") {
            failed(&anyhow::anyhow!("{panic}"));
        }
    }));
}

/// Ends this process at once because another one is gone: the other threads may be anywhere, in a
/// collective that will never end among other places, so nothing is unwound and MPI not asked.
pub(crate) fn lost(reason: &str) -> ! {
    tracing::error!("{reason}; ending");
    // Twice: there may not be a later for this rank's names, and there was no earlier for the other's.
    remove_names();
    std::thread::sleep(AFTER_THE_FIRST);
    remove_names();
    // By now a process that has died has let go of its socket.
    if ORPHANED.load(Ordering::Relaxed) {
        remove_left_by_supervisor();
    }
    // SAFETY: ends the process without running destructors or exit handlers, which is the point.
    unsafe { libc::_exit(LOST_A_RANK.into()) }
}

/// Ends this process after an error of its own. MPI is left as it is: ending it properly would wait
/// for ranks that may be waiting for this one.
pub(crate) fn failed(error: &anyhow::Error) -> ! {
    let text = with_causes(error.as_ref());
    match error.downcast_ref::<ConfigErrors>() {
        _ if QUIET.load(Ordering::Relaxed) => {}
        Some(errors) => eprintln!("{errors}"),
        None if tracing::event_enabled!(target: LAST_WORDS, tracing::Level::ERROR) => {
            tracing::error!(target: LAST_WORDS, "{text}");
        }
        None => eprintln!("shardrun-worker: {text}"),
    }
    crate::life::tell_failure(&text);
    remove_names();
    let lost = error
        .chain()
        .any(|cause| matches!(cause.downcast_ref::<CommError>(), Some(CommError::Timeout { .. })));
    let code = if lost { LOST_A_RANK } else { 1 };
    // SAFETY: as in `lost`.
    unsafe { libc::_exit(code.into()) }
}
