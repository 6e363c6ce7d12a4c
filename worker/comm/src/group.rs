//! What a process group can do, whatever carries it.

use std::ops::Range;

use crate::CommError;

/// The ranks that share one model instance's tensors, as one of them sees it.
///
/// Every call is collective: all ranks make the same calls in the same order. Reductions add in
/// rank order, element by element, so their bits depend neither on message size nor on timing.
/// No call waits without a deadline; the error names who was waited for.
pub trait Group: Send {
    /// This rank's place in the group.
    fn rank(&self) -> usize;

    /// Number of ranks in the group.
    fn size(&self) -> usize;

    /// Replaces `data` on every rank with the sum over ranks.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not take part in time.
    fn all_reduce(&mut self, data: &mut [f32]) -> Result<(), CommError>;

    /// Collects a row-major matrix whose columns are spread over the ranks: rank r holds
    /// `[rows, columns[r].len()]` in `part`, and rank 0 receives `[rows, total]` in `whole`
    /// (`columns` tile `0..total`, and every rank has some). On other ranks `whole` is left alone and may be empty.
    ///
    /// # Errors
    /// [`CommError`] if a peer does not take part in time.
    fn gather_columns(
        &mut self,
        part: &[f32],
        columns: &[Range<usize>],
        whole: &mut [f32],
    ) -> Result<(), CommError>;
}
