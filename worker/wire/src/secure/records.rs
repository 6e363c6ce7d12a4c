//! Records: what is sealed at one end is opened at the other, in its place or not at all.

use std::fmt;
use std::io;
use std::sync::Arc;

use snow::StatelessTransportState;
use thiserror::Error;

/// Bytes of a record before what is sealed.
const HEADER: usize = 2;

/// Bytes by which a record proves itself.
const TAG: usize = 16;

/// Noise allows 65535 bytes, the tag among them.
pub(super) const MOST_PLAIN: usize = u16::MAX as usize - TAG;

/// Why a stream of records can't be read on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum RecordError {
    /// No record is so short.
    #[error("a record of {len} bytes: from {} to {} are allowed", TAG + 1, u16::MAX)]
    Length { len: usize },
    /// It is not what the peer sealed as its next.
    #[error(
        "record {number} of the stream is not genuine: it was changed or repeated, comes from \
         elsewhere, or one before it is missing"
    )]
    Forged { number: u64 },
    /// The stream ends within a record.
    #[error("the stream ended within a record")]
    Truncated,
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::Truncated => io::ErrorKind::UnexpectedEof,
            RecordError::Length { .. } | RecordError::Forged { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Seals what goes to the peer.
pub(crate) struct Sealer {
    transport: Arc<StatelessTransportState>,
    /// The number of the next record.
    next: u64,
}

/// Opens what comes from the peer.
pub(crate) struct Opener {
    transport: Arc<StatelessTransportState>,
    /// The number of the next record.
    next: u64,
    /// `sealed[start..end]` has come and was not opened yet.
    sealed: Vec<u8>,
    start: usize,
    end: usize,
    /// `plain[taken..]` was opened and not taken yet.
    plain: Vec<u8>,
    taken: usize,
    failed: Option<RecordError>,
}

impl Sealer {
    pub(super) fn new(transport: Arc<StatelessTransportState>) -> Self {
        Self { transport, next: 0 }
    }

    /// Appends `plain` to `out`, in as many records as it takes.
    ///
    /// # Errors
    /// After 2^64 - 1 records.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        for piece in plain.chunks(MOST_PLAIN) {
            let start = out.len();
            let len = piece.len() + TAG;
            out.extend_from_slice(&(len as u16).to_le_bytes());
            out.resize(start + HEADER + len, 0);
            let record = &mut out[start + HEADER..];
            self.transport.write_message(self.next, piece, record).map_err(io::Error::other)?;
            self.next += 1;
        }
        Ok(())
    }
}

impl Opener {
    pub(super) fn new(transport: Arc<StatelessTransportState>) -> Self {
        Self {
            transport,
            next: 0,
            sealed: Vec::new(),
            start: 0,
            end: 0,
            plain: Vec::new(),
            taken: 0,
            failed: None,
        }
    }

    /// Takes what was sealed, as much as has come and fits in `out`; 0 if more bytes have to come first.
    ///
    /// # Errors
    /// A [`RecordError`], from then on always.
    pub(super) fn take(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.plain.len()
            && let Err(error) = self.open()
        {
            self.failed = Some(error);
            return Err(error.into());
        }
        let left = &self.plain[self.taken..];
        let len = left.len().min(out.len());
        out[..len].copy_from_slice(&left[..len]);
        self.taken += len;
        Ok(len)
    }

    /// Opens the next record, if all of it has come.
    fn open(&mut self) -> Result<(), RecordError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some((header, rest)) = self.sealed[self.start..self.end].split_first_chunk() else {
            return Ok(());
        };
        let len = usize::from(u16::from_le_bytes(*header));
        if len <= TAG {
            return Err(RecordError::Length { len });
        }
        let Some(record) = rest.get(..len) else { return Ok(()) };
        self.plain.resize(len - TAG, 0);
        self.taken = 0;
        self.transport.read_message(self.next, record, &mut self.plain).map_err(|_| {
            self.plain.clear();
            RecordError::Forged { number: self.next }
        })?;
        self.next += 1;
        self.start += HEADER + len;
        Ok(())
    }

    /// The number of bytes that have to come, at least, until something can be taken.
    pub(super) fn wanted(&self) -> usize {
        let there = &self.sealed[self.start..self.end];
        match there.split_first_chunk() {
            None => HEADER - there.len(),
            Some((header, rest)) => usize::from(u16::from_le_bytes(*header)) - rest.len(),
        }
    }

    /// Room for what comes, `len` bytes or more.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.sealed.len() - self.end < len {
            self.sealed.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.sealed.len() < self.end + len {
                self.sealed.resize(self.end + len, 0);
            }
        }
        &mut self.sealed[self.end..]
    }

    /// So many bytes came and are in the room.
    pub(super) fn came(&mut self, len: usize) {
        self.end += len;
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`RecordError::Truncated`] if that was within a record.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.start == self.end {
            return Ok(());
        }
        Err(self.failed.insert(RecordError::Truncated).to_owned().into())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("next", &self.next).finish_non_exhaustive()
    }
}
