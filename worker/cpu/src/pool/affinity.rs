//! Which core a thread runs on.

use std::{io, mem};

/// Binds the calling thread to `core`, as the system numbers them.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if core >= 8 * size_of_val(&set) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `core` is inside the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is initialised and its size is right; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
