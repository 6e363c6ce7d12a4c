//! Mail within a node: a ring of slots in shared memory.

use std::time::Duration;

use shardrun_shm::{Segment, rank_prefix};

use crate::flag::{FLAG_BYTES, Flag};
use crate::wait::Patience;
use crate::{CommError, Mail, Peer, World};

/// Messages that a follower may be behind.
const SLOTS: usize = 4;
/// A slot begins with the length of its message.
const LEN_BYTES: usize = 8;

/// [`Mail`] through a segment of rank 0: a flag that counts messages sent, a flag a rank that
/// counts messages read, and a ring of slots.
pub struct ShmMail {
    rank: usize,
    size: usize,
    segment: Segment,
    longest: usize,
    count: u32,
    patience: Patience,
}

impl ShmMail {
    /// Sets up the ring for messages of at most `longest` bytes; its name is gone when it returns.
    /// Collective; all ranks are on one node.
    ///
    /// # Errors
    /// [`CommError`] if there is no room for the segment or a peer does not take part in time.
    pub fn new(
        world: &World,
        prefix: &str,
        longest: usize,
        patience: Patience,
    ) -> Result<Self, CommError> {
        let (rank, size) = (world.rank(), world.size());
        let longest = longest.next_multiple_of(LEN_BYTES);
        let bytes = (1 + size) * FLAG_BYTES + SLOTS * (LEN_BYTES + longest);
        let name = rank_prefix(prefix, 0) + "mail";
        let made = (rank == 0).then(|| Segment::create(&name, bytes)).transpose();
        world.barrier()?;
        let opened = if rank == 0 { None } else { Some(Segment::open(&name, bytes)) };
        world.barrier()?;
        let segment = match made? {
            Some(segment) => {
                segment.unlink();
                segment
            }
            None => opened.expect("only rank 0 makes the segment")?,
        };
        Ok(Self { rank, size, segment, longest, count: 0, patience })
    }

    fn sent(&self) -> Flag<'_> {
        Flag::at(&self.segment, 0)
    }

    fn read_by(&self, rank: usize) -> Flag<'_> {
        Flag::at(&self.segment, (1 + rank) * FLAG_BYTES)
    }

    /// The slot of message `count`: where its length is; its bytes follow.
    fn slot(&self, count: u32) -> *mut u8 {
        let slot = count as usize % SLOTS;
        let offset = (1 + self.size) * FLAG_BYTES + slot * (LEN_BYTES + self.longest);
        // SAFETY: the payload holds the flags and all slots.
        unsafe { self.segment.payload().add(offset) }
    }
}

impl Mail for ShmMail {
    fn send(&mut self, message: &[u8]) -> Result<(), CommError> {
        if message.len() > self.longest {
            return Err(CommError::Length {
                what: "a plan, in bytes",
                got: message.len(),
                expected: self.longest,
            });
        }
        let count = self.count.wrapping_add(1);
        for rank in 1..self.size {
            if !self.read_by(rank).wait(count.wrapping_sub(SLOTS as u32), &self.patience) {
                return Err(CommError::Timeout {
                    what: "sending a plan",
                    peer: Peer::Rank(rank),
                    waited: self.patience.timeout,
                });
            }
        }
        let slot = self.slot(count);
        // SAFETY: the slot has room, is 8-byte aligned, and everyone has read what was in it.
        unsafe {
            slot.cast::<u64>().write(message.len() as u64);
            std::ptr::copy_nonoverlapping(message.as_ptr(), slot.add(LEN_BYTES), message.len());
        }
        self.count = count;
        self.sent().raise(count);
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>, wait: Duration) -> Result<bool, CommError> {
        let count = self.count.wrapping_add(1);
        if !self.sent().wait(count, &Patience { timeout: wait, ..self.patience }) {
            return Ok(false);
        }
        let slot = self.slot(count);
        // SAFETY: the flag was seen, so the slot is written, and rank 0 leaves it alone until this
        // rank's flag is raised. The length is checked before it is believed.
        unsafe {
            let len = slot.cast::<u64>().read() as usize;
            if len > self.longest {
                let what = "a plan, in bytes";
                return Err(CommError::Length { what, got: len, expected: self.longest });
            }
            message.clear();
            message.extend_from_slice(std::slice::from_raw_parts(slot.add(LEN_BYTES), len));
        }
        self.count = count;
        self.read_by(self.rank).raise(count);
        Ok(true)
    }
}
