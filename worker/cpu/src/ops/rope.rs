//! Rotary position embedding.

use shardrun_model::{Batch, Rope, RopePairs};

/// Cosines and sines for the rows of a batch. An angle is computed in float64 from the absolute
/// position alone, so it is the same however a prompt is cut.
#[derive(Default)]
pub(crate) struct RopeTable {
    /// What the turns were computed for; `None` when the batch has changed.
    rope: Option<Rope>,
    frequencies: Vec<f64>,
    /// `[rows][dims / 2]` cosines and sines.
    turns: Vec<(f32, f32)>,
}

impl RopeTable {
    /// To be called when the batch changes.
    pub(crate) fn forget(&mut self) {
        self.rope = None;
    }

    /// Computes the turns, unless the last ones were for `rope` too and the batch is the same.
    pub(crate) fn prepare(&mut self, rope: &Rope, batch: &Batch) {
        if self.rope.as_ref() == Some(rope) {
            return;
        }
        let pairs = rope.dims / 2;
        let step = -2.0 / rope.dims as f64;
        self.frequencies.clear();
        self.frequencies.extend((0..pairs).map(|i| f64::from(rope.theta).powf(i as f64 * step)));
        self.turns.clear();
        for span in &batch.spans {
            for at in 0..span.rows.len() {
                let position = (span.position + at) as f64;
                self.turns.extend(self.frequencies.iter().map(|frequency| {
                    let (sin, cos) = (position * frequency).sin_cos();
                    (cos as f32, sin as f32)
                }));
            }
        }
        self.rope = Some(*rope);
    }

    /// Turns `head`, a query or key of batch row `row`, and hands its elements to `put` one by one.
    pub(crate) fn rotate(&self, row: usize, head: &[f32], mut put: impl FnMut(usize, f32)) {
        let pairs = self.frequencies.len();
        let turns = &self.turns[row * pairs..(row + 1) * pairs];
        let (turned, rest) = head.split_at(2 * pairs);
        let halves = self.rope.is_some_and(|rope| rope.pairs == RopePairs::Halves);
        for (i, (cos, sin)) in turns.iter().enumerate() {
            let (a, b) = if halves { (i, i + pairs) } else { (2 * i, 2 * i + 1) };
            put(a, turned[a] * cos - turned[b] * sin);
            put(b, turned[a] * sin + turned[b] * cos);
        }
        for (at, &element) in rest.iter().enumerate() {
            put(2 * pairs + at, element);
        }
    }
}
