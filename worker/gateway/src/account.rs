//! Counting what became of a request.

use std::sync::Arc;
use std::time::Instant;

use shardrun_metrics::{Histogram, MetricsPage, Model, ModelCounter};
use shardrun_wire::Refused;

/// One request's entries in the metrics, under the model that the client named.
pub(crate) struct Account {
    page: Arc<MetricsPage>,
    model: Model,
    arrived: Instant,
    responded: bool,
}

impl Account {
    /// A request that has just arrived.
    pub(crate) fn open(page: Arc<MetricsPage>, model: Model) -> Self {
        Self { page, model, arrived: Instant::now(), responded: false }
    }

    /// The engine refused it. It counts for the engine's own model, too, since no engine counts
    /// what it never took.
    pub(crate) fn refused(&self, refused: &Refused) {
        let counter = match refused {
            Refused::QueueFull { .. } => ModelCounter::Rejected,
            Refused::TooLong { .. }
            | Refused::CacheTooSmall { .. }
            | Refused::Invalid { .. }
            | Refused::Loading
            | Refused::Draining => ModelCounter::Refused,
        };
        self.page.model(self.model, counter).add(1);
        self.page.model(Model::TensorrtLlm, counter).add(1);
    }

    /// A response goes out; the first one's time counts.
    pub(crate) fn responded(&mut self) {
        if !self.responded {
            self.responded = true;
            let histogram = Histogram::FirstResponseUs(self.model);
            self.page.histogram(histogram).observe(self.age_us());
        }
    }

    /// It ended with all that was asked for.
    pub(crate) fn succeeded(&self) {
        self.page.model(self.model, ModelCounter::DurationUs).add(self.age_us());
        self.page.model(self.model, ModelCounter::Succeeded).add(1);
    }

    /// The engine could not finish it.
    pub(crate) fn failed(&self) {
        self.page.model(self.model, ModelCounter::Failed).add(1);
    }

    /// The client left or cancelled.
    pub(crate) fn cancelled(&self) {
        self.page.model(self.model, ModelCounter::Cancelled).add(1);
    }

    fn age_us(&self) -> u64 {
        u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
