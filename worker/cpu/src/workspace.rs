//! Buffers for activations that are used again and again.
//!
//! A model asks for the same sizes in the same order every iteration, so after the first one
//! every request finds a buffer that an earlier tensor gave back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    CpuError,
    memory::{LINE_BYTES, Memory},
};

/// Hands out buffers and takes them back when they are dropped.
#[derive(Clone, Default)]
pub(crate) struct Workspace {
    free: Arc<Mutex<Vec<Memory>>>,
}

impl Workspace {
    /// A buffer of `len` floats that begins on a cache line. What is in it is left over from before.
    pub(crate) fn take(&self, len: usize) -> Result<Buffer, CpuError> {
        let bytes = (len * size_of::<f32>()).max(1).next_multiple_of(LINE_BYTES);
        let memory = match self.reuse(bytes) {
            Some(memory) => memory,
            // Powers of two, so that batches that grow row by row settle on a few sizes.
            None => Memory::zeroed("activations", bytes.next_power_of_two())?,
        };
        let mut buffer = Buffer { memory: Some(memory), len, home: self.clone() };
        if cfg!(debug_assertions) {
            buffer.as_mut_slice().fill(f32::NAN);
        }
        Ok(buffer)
    }

    /// The smallest free buffer that is large enough. If there is none, the largest one makes way
    /// for the one that is allocated next, so that there are never more than were in use at once.
    fn reuse(&self, bytes: usize) -> Option<Memory> {
        let mut free = self.lock();
        let fitting =
            (0..free.len()).filter(|&at| free[at].len() >= bytes).min_by_key(|&at| free[at].len());
        if let Some(at) = fitting {
            return Some(free.swap_remove(at));
        }
        if let Some(at) = (0..free.len()).max_by_key(|&at| free[at].len()) {
            free.swap_remove(at);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run of floats that goes back to its workspace when dropped.
pub(crate) struct Buffer {
    /// `None` only while it is dropped.
    memory: Option<Memory>,
    len: usize,
    home: Workspace,
}

impl Buffer {
    pub(crate) fn as_slice(&self) -> &[f32] {
        let memory = self.memory.as_ref().map_or(&[][..], Memory::as_slice);
        &bytemuck::cast_slice(memory)[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        let memory = self.memory.as_mut().map_or(&mut [][..], Memory::as_mut_slice);
        &mut bytemuck::cast_slice_mut(memory)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.lock().extend(self.memory.take());
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
