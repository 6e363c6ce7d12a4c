//! One shared-memory segment.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, open, posix_fallocate};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{geteuid, linkat};

use crate::{SHM_ROOT, ShmError};

/// Marks a segment as ours.
const MAGIC: u64 = u64::from_le_bytes(*b"shardrun");
/// Changes whenever the meaning of a payload does.
const VERSION: u64 = 1;
/// Bytes before the payload: one cache line.
const HEADER_BYTES: usize = 64;

/// A mapped segment of shared memory, zeroed when created.
#[derive(Debug)]
pub struct Segment {
    map: MmapRaw,
    path: PathBuf,
    /// Held by the creator alone: as long as it is locked, the segment is in use.
    lock: Option<Flock<File>>,
}

impl Segment {
    /// Makes a segment with `payload_bytes` of zeros, readable by this user alone, and locks it. It gets
    /// its name last: nobody sees it half made, and a process killed meanwhile leaves nothing. A dead
    /// process's segment of the same name is replaced.
    ///
    /// # Errors
    /// [`ShmError::InUse`] if the name belongs to a running process; [`ShmError::Io`] if there is
    /// no room.
    pub fn create(name: &str, payload_bytes: usize) -> Result<Self, ShmError> {
        let path = Path::new(SHM_ROOT).join(name);
        if !crate::sweep::remove_if_dead(&path)? {
            return Err(ShmError::InUse { path });
        }
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let fd = open(SHM_ROOT, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| ShmError::io("create", &path, errno))?;
        let lock = Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| ShmError::io("lock", &path, errno))?;
        let bytes = HEADER_BYTES + payload_bytes;
        // Reserved now, since a full /dev/shm would otherwise be a SIGBUS at the first touch.
        posix_fallocate(lock.as_fd(), 0, bytes as libc::off_t)
            .map_err(|errno| ShmError::io("reserve memory for", &path, errno))?;
        let mut header = [0; HEADER_BYTES];
        for (word, value) in
            header.as_chunks_mut().0.iter_mut().zip([MAGIC, VERSION, payload_bytes as u64])
        {
            *word = value.to_ne_bytes();
        }
        lock.write_all_at(&header, 0).map_err(|source| ShmError::io("write to", &path, source))?;
        let unnamed = format!("/proc/self/fd/{}", lock.as_raw_fd());
        linkat(AT_FDCWD, &*unnamed, AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(|errno| ShmError::io("name", &path, errno))?;
        // Opened by its name, which the process's mappings then show.
        match Self::open(name, payload_bytes) {
            Ok(mut segment) => {
                segment.lock = Some(lock);
                Ok(segment)
            }
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Maps a segment that another process of this user made.
    ///
    /// # Errors
    /// [`ShmError::Foreign`] unless owner, magic, version and size are as expected.
    pub fn open(name: &str, payload_bytes: usize) -> Result<Self, ShmError> {
        let path = Path::new(SHM_ROOT).join(name);
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = File::from(
            open(&path, flags, Mode::empty())
                .map_err(|errno| ShmError::io("open", &path, errno))?,
        );
        let stat = fstat(&file).map_err(|errno| ShmError::io("stat", &path, errno))?;
        let bytes = (HEADER_BYTES + payload_bytes) as u64;
        let expect = |what, got: u64, expected: u64| {
            (got == expected).then_some(()).ok_or_else(|| ShmError::Foreign {
                path: path.clone(),
                what,
                got,
                expected,
            })
        };
        expect("owner", stat.st_uid.into(), geteuid().as_raw().into())?;
        expect("size", stat.st_size.unsigned_abs(), bytes)?;
        let map = MmapOptions::new()
            .len(bytes as usize)
            .map_raw(&file)
            .map_err(|source| ShmError::io("map", &path, source))?;
        let segment = Self { map, path: path.clone(), lock: None };
        expect("magic", segment.header(0).load(Ordering::Acquire), MAGIC)?;
        expect("version", segment.header(1).load(Ordering::Relaxed), VERSION)?;
        expect("payload", segment.header(2).load(Ordering::Relaxed), payload_bytes as u64)?;
        Ok(segment)
    }

    /// Takes the name away; whoever has mapped the segment keeps it. For buffers, once everyone has.
    pub fn unlink(&self) {
        // Already gone is as good.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len() - HEADER_BYTES
    }

    /// Whether the payload has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Start of the payload, aligned to 64 bytes. Other processes may write to it at any time.
    #[must_use]
    pub fn payload(&self) -> *mut u8 {
        // SAFETY: the mapping is at least a header long.
        unsafe { self.map.as_mut_ptr().add(HEADER_BYTES) }
    }

    /// The payload as 64-bit words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the payload is mapped as long as self lives, 64-byte aligned, and atomics may be
        // shared with other processes.
        unsafe { std::slice::from_raw_parts(self.payload().cast(), self.len() / 8) }
    }

    /// The 32-bit word at byte `offset` of the payload, for a futex.
    ///
    /// # Panics
    /// If the word is not within the payload, or `offset` is no multiple of 4.
    #[must_use]
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len(), "word within the segment");
        // SAFETY: within the mapping and aligned, by the assertion; see `words`.
        unsafe { &*self.payload().add(offset).cast() }
    }

    /// Lets the lock go and keeps the name, as the death of a process does.
    #[cfg(test)]
    pub(crate) fn forget_lock(&mut self) {
        self.lock = None;
    }

    fn header(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < HEADER_BYTES / 8);
        // SAFETY: the mapping is at least a header long and page-aligned; see `words`.
        unsafe { &*self.map.as_mut_ptr().cast::<AtomicU64>().add(word) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.unlink();
        }
    }
}

/// Whether an open file begins like a segment.
pub(crate) fn is_segment(file: &File) -> bool {
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, 0).is_ok() && u64::from_ne_bytes(magic) == MAGIC
}

/// Takes the lock of a file or folder, unless somebody holds it.
pub(crate) fn try_lock(file: File) -> Result<Option<Flock<File>>, Errno> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno),
    }
}
