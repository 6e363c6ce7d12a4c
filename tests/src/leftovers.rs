//! What dead processes leave in shared memory and in Open MPI's session folders.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where POSIX shared memory is.
const SHM: &str = "/dev/shm";

/// What was there at one time.
#[derive(Clone, Debug)]
pub struct Leftovers {
    before: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// Notes what there is now.
    #[must_use]
    pub fn before() -> Self {
        Self { before: list(Path::new(SHM)).into_iter().collect() }
    }

    /// What has come into /dev/shm since, and belongs to nobody: no living process has it mapped or
    /// open. Other programs of this machine keep theirs.
    #[must_use]
    pub fn abandoned(&self) -> Vec<PathBuf> {
        let mut new = list(Path::new(SHM));
        new.retain(|path| !self.before.contains(path));
        if new.is_empty() {
            return new;
        }
        let used = in_use();
        new.retain(|path| !used.iter().any(|used| used.starts_with(path)));
        // What has gone while this looked was somebody's who ended properly.
        new.retain(|path| path.symlink_metadata().is_ok());
        new
    }

    /// What there is in /dev/shm that begins with `prefix`.
    #[must_use]
    pub fn named(prefix: &str) -> Vec<PathBuf> {
        let begins = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        };
        list(Path::new(SHM)).into_iter().filter(begins).collect()
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Everything in /dev/shm that some process has mapped or open.
fn in_use() -> BTreeSet<PathBuf> {
    let mut used = BTreeSet::new();
    for process in list(Path::new("/proc")) {
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        let mapped = maps.lines().filter_map(|line| line.find(SHM).map(|at| &line[at..]));
        used.extend(mapped.map(PathBuf::from));
        let open = list(&process.join("fd")).into_iter().filter_map(|fd| fs::read_link(fd).ok());
        used.extend(open.filter(|path| path.starts_with(SHM)));
    }
    used
}
