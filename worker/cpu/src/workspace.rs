//! Buffers for activations that are used again and again.
//!
//! A model asks for the same sizes in the same order every iteration, so after the first one
//! every request finds a buffer that an earlier tensor gave back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    CpuError,
    memory::{LINE_BYTES, Line, zeroed},
};

const FLOATS_PER_LINE: usize = LINE_BYTES / size_of::<f32>();

/// Hands out buffers and takes them back when they are dropped.
#[derive(Clone, Default)]
pub(crate) struct Workspace {
    free: Arc<Mutex<Vec<Vec<Line>>>>,
}

impl Workspace {
    /// A buffer of `len` floats that begins on a cache line. What is in it is left over from before.
    pub(crate) fn take(&self, len: usize) -> Result<Buffer, CpuError> {
        let lines = len.div_ceil(FLOATS_PER_LINE);
        let memory = match self.reuse(lines) {
            Some(memory) => memory,
            // Powers of two, so that batches that grow row by row settle on a few sizes.
            None => zeroed("activations", lines.next_power_of_two() * LINE_BYTES)?,
        };
        let mut buffer = Buffer { memory, len, home: self.clone() };
        if cfg!(debug_assertions) {
            buffer.as_mut_slice().fill(f32::NAN);
        }
        Ok(buffer)
    }

    /// The smallest free buffer that is large enough. If there is none, the largest one makes way
    /// for the one that is allocated next, so that there are never more than were in use at once.
    fn reuse(&self, lines: usize) -> Option<Vec<Line>> {
        let mut free = self.lock();
        let fitting =
            (0..free.len()).filter(|&at| free[at].len() >= lines).min_by_key(|&at| free[at].len());
        if let Some(at) = fitting {
            return Some(free.swap_remove(at));
        }
        if let Some(at) = (0..free.len()).max_by_key(|&at| free[at].len()) {
            free.swap_remove(at);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Line>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run of floats that goes back to its workspace when dropped.
pub(crate) struct Buffer {
    memory: Vec<Line>,
    len: usize,
    home: Workspace,
}

impl Buffer {
    pub(crate) fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.memory)[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.memory)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.home.lock().push(memory);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(buffer: &Buffer) -> *const f32 {
        buffer.as_slice().as_ptr()
    }

    #[test]
    fn the_same_sizes_get_the_same_buffers() {
        let workspace = Workspace::default();
        let iteration = || {
            let small = workspace.take(576).unwrap();
            let large = workspace.take(3072).unwrap();
            (address(&small), address(&large))
        };
        let first = iteration();
        for _ in 0..3 {
            assert_eq!(iteration(), first);
        }
    }

    #[test]
    fn a_growing_batch_leaves_no_trail_of_small_buffers() {
        let workspace = Workspace::default();
        for rows in 1..100 {
            let buffer = workspace.take(rows * 576).unwrap();
            assert_eq!(buffer.as_slice().len(), rows * 576);
            assert_eq!(address(&buffer) as usize % LINE_BYTES, 0);
        }
        assert_eq!(workspace.lock().len(), 1);
    }

    #[test]
    fn an_empty_buffer_is_a_buffer() {
        assert!(Workspace::default().take(0).unwrap().as_slice().is_empty());
    }
}
