//! Removing what dead processes left in shared memory.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;

use crate::segment::{is_segment, try_lock};
use crate::{SHM_ROOT, ShmError};

/// Removes everything of this user that begins with `prefix`, is ours by its header or its name,
/// and whose creator is dead. Gives the names.
///
/// # Errors
/// If [`SHM_ROOT`] can't be read.
pub fn sweep(prefix: &str) -> Result<Vec<String>, ShmError> {
    each_of(prefix, |path| matches!(remove_if_dead(path), Ok(true)))
}

/// What [`sweep`] would remove.
///
/// # Errors
/// If [`SHM_ROOT`] can't be read.
pub fn abandoned(prefix: &str) -> Result<Vec<String>, ShmError> {
    let free = |file| matches!(try_lock(file), Ok(Some(_)));
    each_of(prefix, |path| open_ours(path).ok().flatten().is_some_and(free))
}

/// Removes everything of this user or not. For
/// whoever has just ended the processes, or is about to end itself. Gives the names.
///
/// # Errors
/// If [`SHM_ROOT`] can't be read.
pub fn remove_all(prefix: &str) -> Result<Vec<String>, ShmError> {
    each_of(prefix, |path| open_ours(path).is_ok_and(|file| file.is_some()) && remove(path).is_ok())
}

fn each_of(prefix: &str, mut act: impl FnMut(&Path) -> bool) -> Result<Vec<String>, ShmError> {
    let root = Path::new(SHM_ROOT);
    let entries = root.read_dir().map_err(|source| ShmError::io("list", root, source))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix) && !prefix.is_empty())
        .filter(|name| act(&root.join(name)))
        .collect();
    names.sort();
    Ok(names)
}

/// Removes `path` if it is ours and nobody holds its lock. True if nothing is there any more.
pub(crate) fn remove_if_dead(path: &Path) -> Result<bool, ShmError> {
    let Some(file) = open_ours(path)? else { return Ok(!path.exists()) };
    remove_opened_if_dead(path, file)
}

/// Removes what was opened at `path` if nobody holds its lock. It may be another's by then, who removed it
/// meanwhile and made a new one.
fn remove_opened_if_dead(path: &Path, file: File) -> Result<bool, ShmError> {
    match try_lock(file) {
        Ok(Some(lock)) if !is_at(&lock, path)? => Ok(!path.exists()),
        Ok(Some(_lock)) => match remove(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(ShmError::io("remove", path, error))
            }
            _ => Ok(true),
        },
        Ok(None) => Ok(false),
        Err(errno) => Err(ShmError::io("lock", path, errno)),
    }
}

/// Whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> Result<bool, ShmError> {
    let failed = |source| ShmError::io("stat", path, source);
    let own = file.metadata().map_err(failed)?;
    match path.symlink_metadata() {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Opens `path` if it is a segment or scratch folder of this user's.
fn open_ours(path: &Path) -> Result<Option<File>, ShmError> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // Another user's, or a link: not ours.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        Err(error) => return Err(ShmError::io("open", path, error)),
    };
    let metadata = file.metadata().map_err(|source| ShmError::io("stat", path, source))?;
    let ours = metadata.uid() == geteuid().as_raw()
        && if metadata.is_dir() {
            is_scratch(path)
        } else {
            metadata.is_file() && is_segment(&file)
        };
    Ok(ours.then_some(file))
}

/// Scratch folders carry no header; their names end in `{rank}_mpi`.
fn is_scratch(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_suffix("_mpi").is_some_and(|stem| stem.ends_with(|last: char| last.is_ascii_digit()))
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{ScratchDir, Segment};

    fn unique(what: &str) -> String {
        format!("shardrun_test_{}_{what}_", std::process::id())
    }

    #[test]
    fn what_one_writes_the_other_reads() {
        let name = unique("rw") + "0_page";
        let mine = Segment::create(&name, 128).unwrap();
        let theirs = Segment::open(&name, 128).unwrap();
        mine.words()[3].store(77, Ordering::Relaxed);
        assert_eq!(theirs.words()[3].load(Ordering::Relaxed), 77);
        assert_eq!(theirs.len(), 128);
    }

    #[test]
    fn a_wrong_size_or_a_strange_file_is_refused() {
        let name = unique("size") + "0_page";
        let _mine = Segment::create(&name, 128).unwrap();
        assert!(matches!(Segment::open(&name, 64), Err(ShmError::Foreign { what: "size", .. })));
        let strange = unique("strange") + "0_page";
        let path = Path::new(SHM_ROOT).join(&strange);
        std::fs::write(&path, [0; 192]).unwrap();
        assert!(matches!(
            Segment::open(&strange, 128),
            Err(ShmError::Foreign { what: "magic", .. })
        ));
        assert!(matches!(Segment::create(&strange, 128), Err(ShmError::InUse { .. })));
        assert!(sweep(&unique("strange")).unwrap().is_empty(), "not ours to remove");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_name_in_use_is_refused_and_survives_a_sweep() {
        let name = unique("live") + "0_page";
        let mine = Segment::create(&name, 8).unwrap();
        assert!(matches!(Segment::create(&name, 8), Err(ShmError::InUse { .. })));
        assert!(sweep(&unique("live")).unwrap().is_empty());
        drop(mine);
        assert!(!Path::new(SHM_ROOT).join(&name).exists(), "dropping the creator removes it");
    }

    #[test]
    fn the_dead_are_swept() {
        let prefix = unique("dead");
        let segment = format!("{prefix}0_page");
        let folder = format!("{prefix}0_mpi");
        // Leaked as a killed process would leave them, except that their locks are let go.
        let mut kept = Segment::create(&segment, 8).unwrap();
        kept.forget_lock();
        let scratch = ScratchDir::create(&folder).unwrap();
        std::fs::write(scratch.path().join("vader"), "x").unwrap();
        assert_eq!(sweep(&prefix).unwrap(), [segment], "the folder is still locked");
        assert_eq!(remove_all(&prefix).unwrap(), [folder]);
        assert!(sweep(&prefix).unwrap().is_empty());
        drop(scratch);
    }

    #[test]
    fn a_sweep_takes_no_folder_that_is_just_being_made() {
        use std::sync::atomic::AtomicBool;
        let prefix = unique("making");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    sweep(&prefix).unwrap();
                }
            });
            for _ in 0..500 {
                let made = ScratchDir::create(&format!("{prefix}0_mpi"));
                let there = made.as_ref().is_ok_and(|scratch| scratch.path().is_dir());
                if !there {
                    over.store(true, Ordering::Relaxed);
                    panic!("{made:?}");
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        let left = each_of(&prefix, |_| true).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn nothing_half_made_has_a_name() {
        use std::sync::atomic::AtomicBool;
        let prefix = unique("whole");
        let name = format!("{prefix}0_reduce");
        let path = Path::new(SHM_ROOT).join(&name);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let seen = scope.spawn(|| {
                let mut seen = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    seen.extend(File::open(&path).map(|file| is_segment(&file)).ok());
                }
                seen
            });
            for _ in 0..100 {
                drop(Segment::create(&name, 1 << 20));
            }
            over.store(true, Ordering::Relaxed);
            let seen = seen.join().unwrap();
            assert!(seen.iter().all(|&whole| whole), "of {} seen", seen.len());
        });
        assert!(!path.exists());
    }

    #[test]
    fn what_was_replaced_after_it_was_opened_is_left_alone() {
        let name = unique("replaced") + "0_mpi";
        let path = Path::new(SHM_ROOT).join(&name);
        let before = ScratchDir::create(&name).unwrap();
        let opened = open_ours(&path).unwrap().unwrap();
        drop(before);
        let _now = ScratchDir::create(&name).unwrap();
        assert!(!remove_opened_if_dead(&path, opened).unwrap());
        assert!(path.is_dir());
    }

    #[test]
    fn segments_are_the_owners_alone() {
        let name = unique("mode") + "0_page";
        let _mine = Segment::create(&name, 8).unwrap();
        let mode = Path::new(SHM_ROOT).join(&name).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
