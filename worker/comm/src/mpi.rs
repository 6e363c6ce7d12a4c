//! The few MPI calls that the groups are made of, each with its error code checked. Nothing blocks:
//! operations are started, then tested until done or too late.

use std::ffi::{c_int, c_void};
use std::time::{Duration, Instant};

use mpi::ffi;

use crate::wait::Patience;
use crate::{CommError, Peer};

/// The longest sleep between two looks at an operation that all ranks are working on.
const LONGEST_SLEEP: Duration = Duration::from_micros(200);

/// A communicator, its errors returned rather than fatal.
pub(crate) struct Comm {
    raw: ffi::MPI_Comm,
    pub(crate) rank: usize,
    pub(crate) size: usize,
}

// SAFETY: communicators are process-wide handles, and MPI is initialised with MPI_THREAD_MULTIPLE.
unsafe impl Send for Comm {}

/// Turns an MPI return code into a result.
pub(crate) fn check(call: &'static str, code: c_int) -> Result<(), CommError> {
    if code == 0 {
        return Ok(());
    }
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut len = 0;
    // SAFETY: the buffer has the size that MPI asks for.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &mut len) };
    let len = usize::try_from(len).unwrap_or(0).min(text.len());
    Err(CommError::Mpi { call, code, message: String::from_utf8_lossy(&text[..len]).into_owned() })
}

/// Parts from the process that spawned this one, if one did: otherwise the end of each would wait for the
/// other's. Collective over the ranks and that process.
pub(crate) fn part_from_spawner() -> Result<(), CommError> {
    // SAFETY: MPI is initialised; the handle is MPI's own, and nothing else uses it.
    unsafe {
        let mut parent = ffi::RSMPI_COMM_NULL;
        check("MPI_Comm_get_parent", ffi::MPI_Comm_get_parent(&mut parent))?;
        if parent == ffi::RSMPI_COMM_NULL {
            return Ok(());
        }
        check("MPI_Comm_disconnect", ffi::MPI_Comm_disconnect(&mut parent))
    }
}

impl Comm {
    /// All ranks of the job.
    pub(crate) fn world() -> Result<Self, CommError> {
        // SAFETY: a constant of the initialised library.
        Self::from_raw(unsafe { ffi::RSMPI_COMM_WORLD })
    }

    /// The ranks of this communicator that share memory with this one.
    pub(crate) fn split_node(&self) -> Result<Self, CommError> {
        // SAFETY: plain handles in, one handle out.
        unsafe {
            let mut node = ffi::RSMPI_COMM_NULL;
            let kind = ffi::RSMPI_COMM_TYPE_SHARED;
            let info = ffi::RSMPI_INFO_NULL;
            let rank = self.rank as c_int;
            check(
                "MPI_Comm_split_type",
                ffi::MPI_Comm_split_type(self.raw, kind, rank, info, &mut node),
            )?;
            Self::from_raw(node)
        }
    }

    /// The ranks that name the same `color`, in the order of `key`. Collective.
    pub(crate) fn split(&self, color: c_int, key: c_int) -> Result<Self, CommError> {
        // SAFETY: plain handles in, one handle out.
        unsafe {
            let mut part = ffi::RSMPI_COMM_NULL;
            check("MPI_Comm_split", ffi::MPI_Comm_split(self.raw, color, key, &mut part))?;
            Self::from_raw(part)
        }
    }

    /// The same ranks with messages of their own.
    pub(crate) fn duplicate(&self) -> Result<Self, CommError> {
        // SAFETY: plain handles in, one handle out.
        unsafe {
            let mut copy = ffi::RSMPI_COMM_NULL;
            check("MPI_Comm_dup", ffi::MPI_Comm_dup(self.raw, &mut copy))?;
            Self::from_raw(copy)
        }
    }

    fn from_raw(raw: ffi::MPI_Comm) -> Result<Self, CommError> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: the handle is a communicator, and the results are plain integers.
        unsafe {
            check(
                "MPI_Comm_set_errhandler",
                ffi::MPI_Comm_set_errhandler(raw, ffi::RSMPI_ERRORS_RETURN),
            )?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(raw, &mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(raw, &mut size))?;
        }
        Ok(Self { raw, rank: rank as usize, size: size as usize })
    }

    /// Starts gathering `mine` of every rank into `all`, in rank order.
    pub(crate) fn start_all_gather<'a, T: Element>(
        &self,
        mine: &'a [T],
        all: &'a mut [T],
    ) -> Result<Pending, CommError> {
        assert_eq!(all.len(), mine.len() * self.size, "room for every rank's part");
        let count = count(mine.len())?;
        Pending::start("MPI_Iallgather", |request| {
            // SAFETY: both buffers have `count` elements (a rank), and outlive the request, which
            // the caller finishes or, on an error, leaks together with them.
            unsafe {
                let (send, receive) = (mine.as_ptr().cast(), all.as_mut_ptr().cast());
                let kind = T::datatype();
                ffi::MPI_Iallgather(send, count, kind, receive, count, kind, self.raw, request)
            }
        })
    }

    /// Starts gathering `mine` of every rank, of `counts[rank]` elements, into `all` on rank 0.
    pub(crate) fn start_gather<T: Element>(
        &self,
        mine: &[T],
        counts: &[c_int],
        displacements: &[c_int],
        all: &mut [T],
    ) -> Result<Pending, CommError> {
        let count = count(mine.len())?;
        assert_eq!(count, counts[self.rank], "every rank sends what is expected of it");
        if self.rank == 0 {
            assert!(all.len() >= counts.iter().sum::<c_int>() as usize, "room for all");
        }
        Pending::start("MPI_Igatherv", |request| {
            // SAFETY: as in `start_all_gather`; counts and displacements live as long, too.
            unsafe {
                ffi::MPI_Igatherv(
                    mine.as_ptr().cast(),
                    count,
                    T::datatype(),
                    all.as_mut_ptr().cast(),
                    counts.as_ptr(),
                    displacements.as_ptr(),
                    T::datatype(),
                    0,
                    self.raw,
                    request,
                )
            }
        })
    }

    /// Starts sending rank 0's `data` to all.
    pub(crate) fn start_broadcast<T: Element>(&self, data: &mut [T]) -> Result<Pending, CommError> {
        let count = count(data.len())?;
        Pending::start("MPI_Ibcast", |request| {
            // SAFETY: as in `start_all_gather`.
            unsafe {
                ffi::MPI_Ibcast(
                    data.as_mut_ptr().cast(),
                    count,
                    T::datatype(),
                    0,
                    self.raw,
                    request,
                )
            }
        })
    }

    /// Starts a barrier.
    pub(crate) fn start_barrier(&self) -> Result<Pending, CommError> {
        Pending::start("MPI_Ibarrier", |request| {
            // SAFETY: plain handles.
            unsafe { ffi::MPI_Ibarrier(self.raw, request) }
        })
    }

    /// Starts sending bytes to one rank.
    pub(crate) fn start_send(&self, data: &[u8], to: usize) -> Result<Pending, CommError> {
        let count = count(data.len())?;
        Pending::start("MPI_Isend", |request| {
            // SAFETY: as in `start_all_gather`.
            unsafe {
                let data = data.as_ptr().cast::<c_void>();
                ffi::MPI_Isend(data, count, u8::datatype(), to as c_int, 0, self.raw, request)
            }
        })
    }

    /// Takes a message of rank 0 if one has come: `None` if not.
    pub(crate) fn try_receive(&self, message: &mut Vec<u8>) -> Result<Option<Pending>, CommError> {
        // SAFETY: all results are plain values, valid once `found` says so.
        unsafe {
            let mut found = 0;
            let mut matched = ffi::RSMPI_MESSAGE_NULL;
            let mut status: ffi::MPI_Status = std::mem::zeroed();
            check(
                "MPI_Improbe",
                ffi::MPI_Improbe(0, 0, self.raw, &mut found, &mut matched, &mut status),
            )?;
            if found == 0 {
                return Ok(None);
            }
            let mut len = 0;
            check("MPI_Get_count", ffi::MPI_Get_count(&status, u8::datatype(), &mut len))?;
            message.clear();
            message.resize(usize::try_from(len).unwrap_or(0), 0);
            let data = message.as_mut_ptr().cast();
            Pending::start("MPI_Imrecv", |request| {
                ffi::MPI_Imrecv(data, len, u8::datatype(), &mut matched, request)
            })
            .map(Some)
        }
    }
}

fn count(len: usize) -> Result<c_int, CommError> {
    c_int::try_from(len).map_err(|_| CommError::Length {
        what: "an MPI message, in elements",
        got: len,
        expected: c_int::MAX as usize,
    })
}

/// An operation under way. Its buffers must stay until it is done; an operation that is given up
/// takes its buffers with it, so they are leaked then.
pub(crate) struct Pending {
    call: &'static str,
    request: ffi::MPI_Request,
}

// SAFETY: requests are process-wide handles, see `Comm`.
unsafe impl Send for Pending {}

impl Pending {
    fn start(
        call: &'static str,
        start: impl FnOnce(&mut ffi::MPI_Request) -> c_int,
    ) -> Result<Self, CommError> {
        // SAFETY: a constant of the initialised library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        check(call, start(&mut request))?;
        Ok(Self { call, request })
    }

    /// Whether it is done; makes progress.
    pub(crate) fn test(&mut self) -> Result<bool, CommError> {
        let mut done = 0;
        // SAFETY: the request was started, or is null after it was done, which tests as done.
        let code = unsafe { ffi::MPI_Test(&mut self.request, &mut done, ffi::RSMPI_STATUS_IGNORE) };
        check(self.call, code)?;
        Ok(done != 0)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self, patience: &Patience) -> Result<(), CommError> {
        let started = Instant::now();
        if patience.poll(LONGEST_SLEEP, || self.test())? {
            return Ok(());
        }
        Err(CommError::Timeout { what: self.call, peer: Peer::Others, waited: started.elapsed() })
    }
}

/// Types that MPI can carry here.
pub(crate) trait Element: Copy {
    fn datatype() -> ffi::MPI_Datatype;
}

impl Element for u8 {
    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of the initialised library.
        unsafe { ffi::RSMPI_UINT8_T }
    }
}

impl Element for u64 {
    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of the initialised library.
        unsafe { ffi::RSMPI_UINT64_T }
    }
}

impl Element for f32 {
    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of the initialised library.
        unsafe { ffi::RSMPI_FLOAT }
    }
}
