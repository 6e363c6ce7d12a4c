//! Waiting for what can be seen from outside: by looking again and again, never longer than told.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `holds`; gives how long that took.
///
/// # Errors
/// If it doesn't hold within the time; `what` says what was waited for.
pub fn until(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    until_some(what, within, || Ok(holds()?.then_some(())))?;
    Ok(started.elapsed())
}

/// Looks until there is something to see, and gives it.
///
/// # Errors
/// As [`until`].
pub fn until_some<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        // The last look begins after the deadline, so that a busy machine can't hide what is there.
        let over = Instant::now() >= deadline;
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if over {
            bail!("waited {within:.1?} for {what}");
        }
        std::thread::sleep(LOOK);
    }
}
