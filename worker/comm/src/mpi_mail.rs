//! Mail between nodes: MPI messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::mpi::{Comm, Pending};
use crate::wait::Patience;
use crate::{CommError, Mail};

/// Messages on their way at most, as in shared memory.
const UNDER_WAY: usize = 4;
/// The longest sleep of a follower between two looks: what an idle rank costs, and what the first
/// token after some 100 ms of idleness waits for.
const LONGEST_SLEEP: Duration = Duration::from_millis(16);

/// [`Mail`] over MPI.
pub struct MpiMail {
    comm: Comm,
    patience: Patience,
    under_way: VecDeque<Sending>,
}

/// One message to all followers, kept until the last has it.
struct Sending {
    message: Vec<u8>,
    pending: Vec<Pending>,
}

impl MpiMail {
    pub(crate) fn new(comm: Comm, patience: Patience) -> Self {
        Self { comm, patience, under_way: VecDeque::new() }
    }
}

impl Mail for MpiMail {
    fn send(&mut self, message: &[u8]) -> Result<(), CommError> {
        let mut message = message.to_vec();
        if self.under_way.len() >= UNDER_WAY
            && let Some(mut oldest) = self.under_way.pop_front()
        {
            while let Some(pending) = oldest.pending.pop() {
                if let Err(error) = pending.wait(&self.patience) {
                    std::mem::forget(oldest);
                    return Err(error);
                }
            }
            oldest.message.clear();
            oldest.message.append(&mut message);
            message = oldest.message;
        }
        let mut pending = Vec::with_capacity(self.comm.size);
        for rank in 1..self.comm.size {
            match self.comm.start_send(&message, rank) {
                Ok(started) => pending.push(started),
                Err(error) => {
                    std::mem::forget(message);
                    return Err(error);
                }
            }
        }
        self.under_way.push_back(Sending { message, pending });
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>, wait: Duration) -> Result<bool, CommError> {
        let started = Instant::now();
        let patience = Patience { timeout: wait, ..self.patience };
        let mut found = None;
        let came = patience.poll(LONGEST_SLEEP, || {
            found = self.comm.try_receive(message)?;
            Ok::<_, CommError>(found.is_some())
        })?;
        let Some(pending) = found.filter(|_| came) else { return Ok(false) };
        let left = Patience { timeout: self.patience.timeout + started.elapsed(), ..self.patience };
        if let Err(error) = pending.wait(&left) {
            std::mem::forget(std::mem::take(message));
            return Err(error);
        }
        Ok(true)
    }
}

impl Drop for MpiMail {
    fn drop(&mut self) {
        // Messages that nobody fetched keep their memory: MPI may still read it.
        for mut sending in self.under_way.drain(..) {
            if !sending.pending.iter_mut().all(|pending| pending.test().unwrap_or(false)) {
                std::mem::forget(sending.message);
            }
        }
    }
}
