//! A group whose ranks share a node's memory.

use std::ops::Range;

use shardrun_shm::{Segment, rank_prefix};

use crate::flag::{FLAG_BYTES, Flag};
use crate::wait::Patience;
use crate::{CommError, Group, Peer, World};

/// Floats in one slot; longer tensors go in pieces.
const SLOT: usize = 1 << 18;
const SLOT_BYTES: usize = SLOT * size_of::<f32>();

/// A [`Group`] over one segment per rank.
///
/// A segment has a flag and two slots. In round n each rank writes its part to its slot n % 2,
/// raises its flag to n, waits for everyone's flag and reads the slots. Two slots are enough:
/// a rank raises its flag to n + 1 only after it has read the slots of round n, and writes the slot
/// again only in round n + 2, after it has seen those flags.
pub struct ShmGroup {
    rank: usize,
    segments: Vec<Segment>,
    round: u32,
    patience: Patience,
}

impl ShmGroup {
    /// Makes this rank's segment and maps those of the others; the names are gone when it returns.
    /// Collective; all ranks are on one node.
    ///
    /// # Errors
    /// [`CommError`] if there is no room for the segment or a peer does not take part in time.
    pub fn new(world: &World, prefix: &str, patience: Patience) -> Result<Self, CommError> {
        let bytes = FLAG_BYTES + 2 * SLOT_BYTES;
        let name = |rank| rank_prefix(prefix, rank) + "reduce";
        let own = Segment::create(&name(world.rank()), bytes);
        // The others wait at the barrier: come there, whatever the outcome.
        world.barrier()?;
        let own = own?;
        let mut segments = Vec::with_capacity(world.size());
        for rank in 0..world.size() {
            segments.push(Segment::open(&name(rank), bytes)?);
        }
        world.barrier()?;
        own.unlink();
        Ok(Self { rank: world.rank(), segments, round: 0, patience })
    }

    /// One round: writes `part` for the others, waits for all.
    fn exchange(&mut self, part: &[f32]) -> Result<(), CommError> {
        assert!(part.len() <= SLOT, "callers cut to the slot");
        self.round = self.round.wrapping_add(1);
        // SAFETY: the slot has room, and nobody reads it now (see the type).
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), self.slot(self.rank), part.len()) };
        Flag::at(&self.segments[self.rank], 0).raise(self.round);
        for rank in 0..self.segments.len() {
            if !Flag::at(&self.segments[rank], 0).wait(self.round, &self.patience) {
                return Err(CommError::Timeout {
                    what: "a collective over shared memory",
                    peer: Peer::Rank(rank),
                    waited: self.patience.timeout,
                });
            }
        }
        Ok(())
    }

    /// What `rank` wrote in this round.
    fn part(&self, rank: usize, len: usize) -> &[f32] {
        assert!(len <= SLOT, "callers cut to the slot");
        // SAFETY: within the segment and aligned; the rank's flag was seen, and it writes this slot
        // again only after this rank's next exchange, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.slot(rank), len) }
    }

    fn slot(&self, rank: usize) -> *mut f32 {
        let offset = FLAG_BYTES + (self.round % 2) as usize * SLOT_BYTES;
        // SAFETY: the payload holds the flag and two slots.
        unsafe { self.segments[rank].payload().add(offset).cast() }
    }
}

impl Group for ShmGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.segments.len()
    }

    fn all_reduce(&mut self, data: &mut [f32]) -> Result<(), CommError> {
        for chunk in data.chunks_mut(SLOT) {
            self.exchange(chunk)?;
            if let [_, _] = self.segments[..] {
                // Two parts have the same sum in either order, so the own one may stay where it is.
                let part = self.part(1 - self.rank, chunk.len());
                chunk.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                continue;
            }
            chunk.copy_from_slice(self.part(0, chunk.len()));
            for rank in 1..self.size() {
                let part = self.part(rank, chunk.len());
                chunk.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(())
    }

    fn gather_columns(
        &mut self,
        part: &[f32],
        columns: &[Range<usize>],
        whole: &mut [f32],
    ) -> Result<(), CommError> {
        let total = columns.last().map_or(0, |range| range.end);
        let longest = columns.iter().map(Range::len).max().unwrap_or(0);
        let own = columns[self.rank].len();
        let Some(rows) = part.len().checked_div(own) else { return Ok(()) };
        // The widest rank's rows must fit a slot, or else pieces of one row.
        let (rows_a_round, columns_a_round) =
            if longest <= SLOT { ((SLOT / longest).max(1), longest) } else { (1, SLOT) };
        for first in (0..rows).step_by(rows_a_round) {
            let rows = rows_a_round.min(rows - first);
            for offset in (0..longest).step_by(columns_a_round) {
                let piece =
                    |range: &Range<usize>| columns_a_round.min(range.len().saturating_sub(offset));
                let start = (first * own + offset).min(part.len());
                let mine = if rows_a_round == 1 { piece(&columns[self.rank]) } else { rows * own };
                let mine = &part[start..][..mine];
                if self.rank != 0 {
                    self.exchange(mine)?;
                    continue;
                }
                // Nobody else reads what rank 0 has.
                self.exchange(&[])?;
                for (rank, range) in columns.iter().enumerate() {
                    let width = piece(range);
                    let theirs = if rank == 0 { mine } else { self.part(rank, rows * width) };
                    for (row, values) in theirs.chunks_exact(width.max(1)).enumerate() {
                        let at = (first + row) * total + range.start + offset;
                        whole[at..][..width].copy_from_slice(values);
                    }
                }
            }
        }
        Ok(())
    }
}
