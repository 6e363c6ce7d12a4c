//! A group whose collectives are MPI's, for ranks on several nodes.

use std::ffi::c_int;
use std::ops::Range;

use crate::mpi::{Comm, Pending};
use crate::wait::Patience;
use crate::{CommError, Group};

/// Floats that one reduction moves at a time.
const CHUNK: usize = 1 << 16;

/// A [`Group`] over MPI. MPI_Allreduce adds in an order that depends on the message's size, so
/// every rank gathers all parts and adds them itself.
pub struct MpiGroup {
    comm: Comm,
    patience: Patience,
    mine: Vec<f32>,
    all: Vec<f32>,
    counts: Vec<c_int>,
    displacements: Vec<c_int>,
}

impl MpiGroup {
    pub(crate) fn new(comm: Comm, patience: Patience) -> Self {
        Self {
            comm,
            patience,
            mine: Vec::new(),
            all: Vec::new(),
            counts: Vec::new(),
            displacements: Vec::new(),
        }
    }

    /// Waits for an operation on the group's buffers; leaks them if it is given up.
    fn finish(&mut self, started: Result<Pending, CommError>) -> Result<(), CommError> {
        let result = started.and_then(|pending| pending.wait(&self.patience));
        if result.is_err() {
            std::mem::forget(std::mem::take(&mut self.mine));
            std::mem::forget(std::mem::take(&mut self.all));
            std::mem::forget(std::mem::take(&mut self.counts));
            std::mem::forget(std::mem::take(&mut self.displacements));
        }
        result
    }
}

impl Group for MpiGroup {
    fn rank(&self) -> usize {
        self.comm.rank
    }

    fn size(&self) -> usize {
        self.comm.size
    }

    fn all_reduce(&mut self, data: &mut [f32]) -> Result<(), CommError> {
        for chunk in data.chunks_mut(CHUNK) {
            self.mine.clear();
            self.mine.extend_from_slice(chunk);
            self.all.resize(chunk.len() * self.comm.size, 0.0);
            let started = self.comm.start_all_gather(&self.mine, &mut self.all);
            self.finish(started)?;
            let (first, others) = self.all.split_at(chunk.len());
            chunk.copy_from_slice(first);
            for part in others.chunks_exact(chunk.len()) {
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
        let own = columns[self.comm.rank].len();
        if own == 0 || total == 0 {
            return Ok(());
        }
        // Row by row: what arrives is then the row itself.
        for (row, part) in part.chunks_exact(own).enumerate() {
            self.mine.clear();
            self.mine.extend_from_slice(part);
            self.counts.clear();
            self.counts.extend(columns.iter().map(|range| range.len() as c_int));
            self.displacements.clear();
            self.displacements.extend(columns.iter().map(|range| range.start as c_int));
            self.all.resize(if self.comm.rank == 0 { total } else { 0 }, 0.0);
            let started = self.comm.start_gather(
                &self.mine,
                &self.counts,
                &self.displacements,
                &mut self.all,
            );
            self.finish(started)?;
            if self.comm.rank == 0 {
                whole[row * total..][..total].copy_from_slice(&self.all);
            }
        }
        Ok(())
    }
}
