//! Counting what became of a request.

use std::sync::Arc;
use std::time::Instant;

use shardrun_metrics::{Histogram, MetricsPage, Model, ModelCounter};
use shardrun_wire::Refused;

/// One request's entries in the metrics, under the model that the client named.
pub(crate) struct Account {
    page: Arc<MetricsPage>,
    /// `None` if it is the engine's own, which the engine counts.
    model: Option<Model>,
    arrived: Instant,
    responded: bool,
}

impl Account {
    /// A request that has just arrived.
    pub(crate) fn open(page: Arc<MetricsPage>, model: Model) -> Self {
        let model = Some(model).filter(|&model| model != Model::TensorrtLlm);
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
            | Refused::Draining
            | Refused::Unreachable { .. } => ModelCounter::Refused,
        };
        self.count(counter, 1);
        self.page.model(Model::TensorrtLlm, counter).add(1);
    }

    /// A response goes out; the first one's time counts.
    pub(crate) fn responded(&mut self) {
        if let Some(model) = self.model
            && !self.responded
        {
            self.responded = true;
            self.page.histogram(Histogram::FirstResponseUs(model)).observe(self.age_us());
        }
    }

    /// It ended with all that was asked for.
    pub(crate) fn succeeded(&self) {
        self.count(ModelCounter::DurationUs, self.age_us());
        self.count(ModelCounter::Succeeded, 1);
    }

    /// The engine could not finish it, or not in time.
    pub(crate) fn failed(&self) {
        self.count(ModelCounter::Failed, 1);
    }

    /// It waited longer than the queue allows.
    pub(crate) fn rejected(&self) {
        self.count(ModelCounter::Rejected, 1);
    }

    /// The client left or cancelled.
    pub(crate) fn cancelled(&self) {
        self.count(ModelCounter::Cancelled, 1);
    }

    fn count(&self, counter: ModelCounter, n: u64) {
        if let Some(model) = self.model {
            self.page.model(model, counter).add(n);
        }
    }

    fn age_us(&self) -> u64 {
        u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
