//! The group of one.

use std::ops::Range;

use crate::{CommError, Group};

/// A group with nobody else in it: every collective is the identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Group for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _data: &mut [f32]) -> Result<(), CommError> {
        Ok(())
    }

    fn gather_columns(
        &mut self,
        part: &[f32],
        _columns: &[Range<usize>],
        whole: &mut [f32],
    ) -> Result<(), CommError> {
        whole.copy_from_slice(part);
        Ok(())
    }

    fn all_min(&mut self, value: u64) -> Result<u64, CommError> {
        Ok(value)
    }
}
