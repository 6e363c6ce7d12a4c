//! Rotary position embedding.

use shardrun_model::{Batch, Rope, RopePairs};

use crate::kernels::Turns;

/// Cosines and sines for the rows of a batch. An angle is computed in float64 from the absolute
/// position alone, so it is the same however a prompt is cut.
#[derive(Default)]
pub(crate) struct RopeTable {
    /// What the turns were computed for; `None` when the batch has changed.
    rope: Option<Rope>,
    frequencies: Vec<f64>,
    /// `[rows][dims]`, one for each element that turns.
    cosines: Vec<f32>,
    /// The same, the first element's of each pair negative.
    sines: Vec<f32>,
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
        for turns in [&mut self.cosines, &mut self.sines] {
            turns.clear();
            turns.resize(batch.rows() * 2 * pairs, 0.0);
        }
        for span in &batch.spans {
            for row in span.rows.clone() {
                let position = (span.position + row - span.rows.start) as f64;
                let place = row * 2 * pairs..(row + 1) * 2 * pairs;
                let (cosines, sines) =
                    (&mut self.cosines[place.clone()], &mut self.sines[place.clone()]);
                for (i, frequency) in self.frequencies.iter().enumerate() {
                    let (sin, cos) = (position * frequency).sin_cos();
                    let (a, b) = match rope.pairs {
                        RopePairs::Neighbours => (2 * i, 2 * i + 1),
                        RopePairs::Halves => (i, i + pairs),
                    };
                    (cosines[a], cosines[b]) = (cos as f32, cos as f32);
                    (sines[a], sines[b]) = (-sin as f32, sin as f32);
                }
            }
        }
        self.rope = Some(*rope);
    }

    /// How the heads of batch row `row` turn.
    ///
    /// # Panics
    /// If nothing was prepared for the batch.
    pub(crate) fn turns(&self, row: usize) -> Turns<'_> {
        let pairs = self.rope.expect("a table that was prepared").pairs;
        let dims = 2 * self.frequencies.len();
        let place = row * dims..(row + 1) * dims;
        Turns { cosines: &self.cosines[place.clone()], sines: &self.sines[place], pairs }
    }
}
