//! Rows of logits in order.

use std::collections::VecDeque;

/// Rows that have come and were not taken yet. Rows that come twice count once.
pub(super) struct Rows {
    vocab_size: usize,
    /// Rows that have come.
    seen: u32,
    waiting: VecDeque<Vec<f32>>,
}

impl Rows {
    pub(super) fn new(vocab_size: u32) -> Self {
        Self { vocab_size: vocab_size as usize, seen: 0, waiting: VecDeque::new() }
    }

    /// Rows that have come, taken or not.
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// Takes `[rows, vocabulary]`, the first of which is row `index`. `None` if rows are missing
    /// before it, or the last one is not whole.
    pub(super) fn add(&mut self, index: u32, values: &[f32]) -> Option<()> {
        let repeated = self.seen.checked_sub(index)? as usize;
        let rows = values.chunks_exact(self.vocab_size);
        if !rows.remainder().is_empty() {
            return None;
        }
        for row in rows.skip(repeated) {
            self.waiting.push_back(row.to_vec());
            self.seen += 1;
        }
        Some(())
    }

    /// All that wait.
    pub(super) fn take(&mut self) -> Vec<Vec<f32>> {
        std::mem::take(&mut self.waiting).into()
    }

    /// The first that waits.
    pub(super) fn take_one(&mut self) -> Option<Vec<f32>> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_order_and_once() {
        let mut rows = Rows::new(2);
        rows.add(0, &[0.0, 0.5, 1.0, 1.5]).unwrap();
        rows.add(1, &[1.0, 1.5, 2.0, 2.5]).unwrap();
        assert_eq!(rows.take(), [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]);
        rows.add(0, &[0.0, 0.5]).unwrap();
        assert_eq!(rows.take(), Vec::<Vec<f32>>::new());
    }

    #[test]
    fn missing_rows_and_parts_of_rows_are_seen() {
        let mut rows = Rows::new(2);
        assert_eq!(rows.add(1, &[0.0, 0.5]), None);
        assert_eq!(rows.add(0, &[0.0, 0.5, 1.0]), None);
    }
}
