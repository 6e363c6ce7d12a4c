//! What the leader tells its followers.

use std::time::Duration;

use crate::CommError;

/// Messages from rank 0 to every other rank, in order, each exactly once.
pub trait Mail: Send {
    /// Sends `message` to all followers. For rank 0.
    ///
    /// # Errors
    /// [`CommError::Length`] if it is longer than the mail carries, [`CommError::Timeout`] if a
    /// follower is too far behind for too long.
    fn send(&mut self, message: &[u8]) -> Result<(), CommError>;

    /// Waits for the next message and puts it in `message`; false if none came within `wait`. For
    /// followers, who sleep here while there is nothing to do.
    ///
    /// # Errors
    /// [`CommError`] if what carries the mail failed.
    fn receive(&mut self, message: &mut Vec<u8>, wait: Duration) -> Result<bool, CommError>;
}
