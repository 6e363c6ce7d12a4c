//! Where the programs that a launch needs are.

use std::ffi::OsStr;
use std::path::PathBuf;

use shardrun_slurm::is_program;

/// The name of this program.
pub(crate) const SHARDRUN: &str = "shardrun";
/// The name of the program that every rank runs.
pub(crate) const WORKER: &str = "shardrun-worker";
/// The programs that start ranks.
pub(crate) const MPIRUN: &str = "mpirun";
pub(crate) const SRUN: &str = "srun";
pub(crate) const SPAWN: &str = "shardrun-spawn";

/// `$SHARDRUN_WORKER`, or the worker beside this program, or one on PATH.
pub(crate) fn worker() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SHARDRUN_WORKER") {
        return Some(PathBuf::from(path)).filter(|path| is_program(path));
    }
    beside(WORKER).or_else(|| on_path(WORKER))
}

/// What starts ranks, as environment modules or the distribution put it on PATH; our own is beside this
/// program, too.
pub(crate) fn starter(kind: crate::starter::Kind) -> Option<PathBuf> {
    use crate::starter::Kind;
    match kind {
        Kind::Worker => worker(),
        Kind::CommSpawn => beside(SPAWN).or_else(|| on_path(SPAWN)),
        Kind::Mpirun | Kind::Srun => on_path(kind.program()),
    }
}

/// What to do where there is none.
pub(crate) fn no_starter(kind: crate::starter::Kind) -> String {
    use crate::starter::Kind;
    match kind {
        Kind::Mpirun => format!(
            "there is no {MPIRUN} on PATH; load your site's MPI module, or install openmpi-bin"
        ),
        Kind::Srun => format!("there is no {SRUN} on PATH: is Slurm installed on this node?"),
        Kind::CommSpawn | Kind::Worker => format!(
            "there is no {} beside shardrun or on PATH; `cargo build --release` makes it",
            kind.program()
        ),
    }
}

/// A program of ours, beside this one.
fn beside(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    beside.filter(|path| is_program(path))
}

/// A program on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, name)
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_executable_on_the_path_is_taken() {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let file = |i: usize, mode: u32| {
            let path = dirs[i].path().join("tool");
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        file(0, 0o644);
        let second = file(1, 0o755);
        file(2, 0o755);
        let path = std::env::join_paths(dirs.iter().map(tempfile::TempDir::path)).unwrap();
        assert_eq!(find_in(&path, "tool"), Some(second));
        assert_eq!(find_in(&path, "other"), None);
    }
}
