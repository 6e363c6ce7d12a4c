//! How soon a thread that has something to do gets a core.

use std::{io, mem};

/// Longest turn on a core of the threads that speak to clients, in nanoseconds. The system's own choice
/// is a few milliseconds.
const SHORT: u64 = 100_000;

/// Asks for short turns for the calling thread, and for threads that it starts: when it wakes it then
/// gets a core soon, although compute threads are in the middle of a longer turn there, and gives it
/// back soon. It gets no larger share by that, and needs no rights. Linux before 6.12 takes no notice.
///
/// # Errors
/// The system's, which leaves everything as it was.
pub(crate) fn take_short() -> io::Result<()> {
    // SAFETY: a sched_attr is integers, for which zero is a value.
    let mut own: libc::sched_attr = unsafe { mem::zeroed() };
    let size = size_of_val(&own) as u32;
    // SAFETY: the kernel writes no more than `size` bytes; 0 is the calling thread.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut own, size, 0) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    // Of other policies it would be another thing.
    if own.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    own.sched_runtime = SHORT;
    // SAFETY: the kernel reads a sched_attr, whose size is in it; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const own, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Whether this system heard; a sandbox may know neither call.
    fn heard(asked: io::Result<()>) -> bool {
        let refusal = asked.err().map(|error| error.raw_os_error().unwrap());
        assert!(matches!(refusal, None | Some(libc::ENOSYS | libc::EPERM)), "{refusal:?}");
        refusal.is_none()
    }

    #[test]
    fn any_thread_may_ask_and_keeps_its_priority() {
        let priority = || {
            // SAFETY: the call has no preconditions.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        };
        std::thread::spawn(move || {
            let before = priority();
            let first = heard(take_short());
            assert_eq!(heard(take_short()), first);
            assert_eq!(priority(), before);
        })
        .join()
        .unwrap();
    }
}
