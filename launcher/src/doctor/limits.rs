//! Shared memory, and what a process may have.

use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use shardrun_slurm::human;

use super::Finding;

const SHM: &str = "/dev/shm";
/// What a few ranks need for their buffers; containers are often given as little.
const LITTLE_SHM: u64 = 64 << 20;
/// Sockets of clients, ranks and logs.
const FEW_FILES: u64 = 1024;
/// What libraries for fast networks register.
const LITTLE_LOCKED: u64 = 64 << 20;

pub(super) fn look() -> Vec<Finding> {
    vec![shared_memory(), open_files(), locked_memory()]
}

fn shared_memory() -> Finding {
    const WHAT: &str = "shared memory";
    let status = match statvfs(SHM) {
        Ok(status) => status,
        Err(error) => {
            let advice = "ranks of one node share memory there: mount a tmpfs";
            return Finding::failure(WHAT, format!("{SHM}: {error}"), advice);
        }
    };
    let (block, size) = (status.fragment_size(), status.blocks());
    let free = status.blocks_available() * block;
    let found = format!("{SHM} has {}, {} of it free", human(size * block), human(free));
    let writable = nix::unistd::access(SHM, nix::unistd::AccessFlags::W_OK).is_ok();
    match (writable, free) {
        (false, _) => Finding::failure(WHAT, format!("{SHM} can't be written to"), "ask its owner"),
        (true, ..LITTLE_SHM) => Finding::failure(
            WHAT,
            found,
            "make it larger; of a container, with --shm-size or a mount of the host's",
        ),
        _ => Finding::ok(WHAT, found),
    }
}

fn open_files() -> Finding {
    const WHAT: &str = "open files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < FEW_FILES => Finding::warning(
            WHAT,
            format!("a process may have {soft}"),
            format!("`ulimit -n {FEW_FILES}` or more, in slurm.prologue for one"),
        ),
        Ok((soft, hard)) => {
            Finding::ok(WHAT, format!("a process may have {}, at most {}", told(soft), told(hard)))
        }
        Err(error) => Finding::warning(WHAT, error.to_string(), "see `ulimit -n`"),
    }
}

/// What a process may lock in memory matters where a network's hardware reads it.
fn locked_memory() -> Finding {
    const WHAT: &str = "locked memory";
    let fabric = Path::new("/sys/class/infiniband").read_dir();
    let fabric = fabric.is_ok_and(|mut devices| devices.next().is_some());
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if fabric && soft < LITTLE_LOCKED => Finding::warning(
            WHAT,
            format!("a process may lock {}, and there is an InfiniBand device", human(soft)),
            "`ulimit -l unlimited` in slurm.prologue, or ask those who run the cluster",
        ),
        Ok((RLIM_INFINITY, _)) => Finding::ok(WHAT, "a process may lock all"),
        Ok((soft, _)) => Finding::ok(
            WHAT,
            match fabric {
                true => format!("a process may lock {}", human(soft)),
                false => {
                    format!("a process may lock {}; no InfiniBand device needs it", human(soft))
                }
            },
        ),
        Err(error) => Finding::warning(WHAT, error.to_string(), "see `ulimit -l`"),
    }
}

fn told(limit: u64) -> String {
    if limit == RLIM_INFINITY { "any number".to_owned() } else { limit.to_string() }
}
