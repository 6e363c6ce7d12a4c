//! The group of one.

use std::ops::Range;
use std::time::Duration;

use crate::{CommError, Group, Mail};

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
}

/// The mail of a leader without followers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMail;

impl Mail for NoMail {
    fn send(&mut self, _message: &[u8]) -> Result<(), CommError> {
        Ok(())
    }

    fn receive(&mut self, _message: &mut Vec<u8>, wait: Duration) -> Result<bool, CommError> {
        std::thread::sleep(wait);
        Ok(false)
    }
}
