//! All ranks of the job, for what happens once at the start.

use std::mem::forget;

use mpi::Threading;
use mpi::environment::Universe;

use crate::mpi::{Comm, part_from_spawner};
use crate::wait::Patience;
use crate::{CommError, MpiGroup, MpiMail};

/// The ranks of a job, by MPI from its initialisation to its end; or one rank without it. Collective calls are
/// made by all ranks in one order.
///
/// Dropping it does not finalise MPI, unless the world is of one: that waits for all ranks, and who drops
/// it on an error is not waited for by ranks that may be gone.
pub struct World {
    /// `None` for a rank that is alone without MPI.
    mpi: Option<Mpi>,
    patience: Patience,
}

struct Mpi {
    comm: Comm,
    node: Comm,
    /// Finalises MPI when dropped.
    universe: Option<Universe>,
}

/// More than a deployment has.
const MOST_INSTANCES: i32 = 1 << 24;

impl World {
    /// Initialises MPI for several threads.
    ///
    /// # Errors
    /// [`CommError::Threading`] if the library can't serve several threads;
    /// [`CommError::Initialised`] if it was initialised before.
    pub fn init(patience: Patience) -> Result<Self, CommError> {
        let (universe, threading) =
            mpi::initialize_with_threading(Threading::Multiple).ok_or(CommError::Initialised)?;
        if threading < Threading::Multiple {
            return Err(CommError::Threading);
        }
        part_from_spawner()?;
        let comm = Comm::world()?;
        let node = comm.split_node()?;
        Ok(Self { mpi: Some(Mpi { comm, node, universe: Some(universe) }), patience })
    }

    /// A rank that is alone, without MPI.
    #[must_use]
    pub fn alone(patience: Patience) -> Self {
        Self { mpi: None, patience }
    }

    /// Keeps the part of the world whose ranks name the same `instance`, in the order of their `place` in it; a rank
    /// that names none stays alone. Collective.
    ///
    /// # Errors
    /// [`CommError`] if MPI can't part the ranks.
    pub fn part(&mut self, instance: Option<u32>, place: usize) -> Result<(), CommError> {
        let Some(Mpi { comm, node, .. }) = &mut self.mpi else { return Ok(()) };
        // Those that are in no instance are each in one of their own, after all others.
        let color = instance.map_or(MOST_INSTANCES + comm.rank as i32, |n| n.cast_signed());
        *comm = comm.split(color, place as i32)?;
        *node = comm.split_node()?;
        Ok(())
    }

    /// Finalises MPI. Collective: waits for all ranks.
    pub fn finalize(mut self) {
        drop(self.mpi.take().and_then(|mut mpi| mpi.universe.take()));
    }

    /// This rank's place in the job.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.mpi.as_ref().map_or(0, |mpi| mpi.comm.rank)
    }

    /// Ranks of the job.
    #[must_use]
    pub fn size(&self) -> usize {
        self.mpi.as_ref().map_or(1, |mpi| mpi.comm.size)
    }

    /// This rank's place among those of its node.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.mpi.as_ref().map_or(0, |mpi| mpi.node.rank)
    }

    /// Ranks of the job on this node.
    #[must_use]
    pub fn local_size(&self) -> usize {
        self.mpi.as_ref().map_or(1, |mpi| mpi.node.size)
    }

    /// Changes how long later calls wait. Groups and mail have a patience of their own.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Whether all ranks are on one node. Collective.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not take part in time.
    pub fn on_one_node(&self) -> Result<bool, CommError> {
        let sizes = self.all_gather_u64(self.local_size() as u64)?;
        Ok(sizes.iter().all(|&size| size == self.size() as u64))
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not come in time.
    pub fn barrier(&self) -> Result<(), CommError> {
        match &self.mpi {
            Some(mpi) => mpi.comm.start_barrier()?.wait(&self.patience),
            None => Ok(()),
        }
    }

    /// Rank 0's `bytes`, on every rank. What others pass is not read.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not take part in time.
    pub fn broadcast(&self, bytes: &[u8]) -> Result<Vec<u8>, CommError> {
        let Some(Mpi { comm, .. }) = &self.mpi else { return Ok(bytes.to_vec()) };
        let len = self.all_gather_u64(bytes.len() as u64)?[0] as usize;
        if len == 0 {
            return Ok(Vec::new());
        }
        let mut data = if comm.rank == 0 { bytes.to_vec() } else { vec![0; len] };
        let result =
            comm.start_broadcast(&mut data).and_then(|pending| pending.wait(&self.patience));
        if let Err(error) = result {
            forget(data);
            return Err(error);
        }
        Ok(data)
    }

    /// Every rank's `text`, in rank order.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not take part in time.
    pub fn all_gather_text(&self, text: &str) -> Result<Vec<String>, CommError> {
        let Some(Mpi { comm, .. }) = &self.mpi else { return Ok(vec![text.to_owned()]) };
        let lens = self.all_gather_u64(text.len() as u64)?;
        let longest = lens.iter().copied().max().unwrap_or(0) as usize;
        let mut mine = text.as_bytes().to_vec();
        mine.resize(longest, 0);
        let mut all = vec![0; longest * comm.size];
        let result =
            comm.start_all_gather(&mine, &mut all).and_then(|pending| pending.wait(&self.patience));
        if let Err(error) = result {
            forget((mine, all));
            return Err(error);
        }
        let text = |(rank, &len): (usize, &u64)| {
            String::from_utf8_lossy(&all[rank * longest..][..len as usize]).into_owned()
        };
        Ok(lens.iter().enumerate().map(text).collect())
    }

    /// Every rank's `value`, in rank order.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not take part in time.
    pub fn all_gather_u64(&self, value: u64) -> Result<Vec<u64>, CommError> {
        let Some(Mpi { comm, .. }) = &self.mpi else { return Ok(vec![value]) };
        let (mine, mut all) = (vec![value], vec![0; comm.size]);
        let result =
            comm.start_all_gather(&mine, &mut all).and_then(|pending| pending.wait(&self.patience));
        if let Err(error) = result {
            forget((mine, all));
            return Err(error);
        }
        Ok(all)
    }

    /// The ranks of the job as a group whose collectives are MPI's, with a patience of their own.
    /// Collective.
    ///
    /// # Errors
    /// [`CommError`] if MPI refuses.
    ///
    /// # Panics
    /// If there is no MPI.
    pub fn mpi_group(&self, patience: Patience) -> Result<MpiGroup, CommError> {
        Ok(MpiGroup::new(self.comm().duplicate()?, patience))
    }

    /// Messages of rank 0 to all others over MPI, with a patience of their own. Collective.
    ///
    /// # Errors
    /// [`CommError`] if MPI refuses.
    ///
    /// # Panics
    /// If there is no MPI.
    pub fn mpi_mail(&self, patience: Patience) -> Result<MpiMail, CommError> {
        Ok(MpiMail::new(self.comm().duplicate()?, patience))
    }

    fn comm(&self) -> &Comm {
        let mpi = self.mpi.as_ref().expect("a rank that is alone talks to nobody");
        &mpi.comm
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Alone there is nobody to wait for, and the library removes its files.
        if let Some(mpi) = &mut self.mpi
            && mpi.comm.size > 1
        {
            forget(mpi.universe.take());
        }
    }
}
