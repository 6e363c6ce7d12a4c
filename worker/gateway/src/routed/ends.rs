//! Counting what became of a request: once, whichever instances it was in. Their own counts can't tell
//! an end from a death that the request outlives.

use std::time::Duration;

use shardrun_metrics::{Histogram, MetricsPage, Model, ModelCounter};
use shardrun_wire::FinishReason;

/// How a request has ended so far.
#[derive(Debug)]
pub(super) struct Ends {
    reason: Option<FinishReason>,
    /// Sequences whose ends have not been told.
    open: usize,
    counted: bool,
}

/// What is counted of a request beside its end.
pub(super) struct Measures {
    pub(super) prompt_tokens: usize,
    pub(super) generated: usize,
    /// From its submission to its end.
    pub(super) age: Duration,
}

impl Ends {
    /// Of a request of which so many sequences are to end.
    pub(super) fn of(open: usize) -> Self {
        Self { reason: None, open, counted: false }
    }

    /// Whether all its sequences have ended.
    pub(super) fn are_all(&self) -> bool {
        self.open == 0
    }

    /// One of its sequences ended so. What cut one of them short is the end of the request.
    pub(super) fn note(&mut self, reason: &FinishReason) {
        self.open = self.open.saturating_sub(1);
        if self.reason.as_ref().is_none_or(is_well) {
            self.reason = Some(reason.clone());
        }
    }

    /// Counts it, the first time, as an engine does that has a request from its beginning to its end; not
    /// at all if it was refused, which whoever submitted it counts.
    pub(super) fn count(&mut self, measures: &Measures, page: &MetricsPage) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        let Some(reason) = &self.reason else { return };
        let count = |counter, n| page.model(Model::TensorrtLlm, counter).add(n);
        match reason {
            FinishReason::EndId | FinishReason::StopWords | FinishReason::Length => {
                count(ModelCounter::Succeeded, 1);
                let us = u64::try_from(measures.age.as_micros()).unwrap_or(u64::MAX);
                count(ModelCounter::DurationUs, us);
            }
            FinishReason::TimedOut | FinishReason::Expired => count(ModelCounter::TimedOut, 1),
            FinishReason::Cancelled => count(ModelCounter::Cancelled, 1),
            FinishReason::Failed(_) => count(ModelCounter::Failed, 1),
        }
        page.histogram(Histogram::InputTokens).observe(measures.prompt_tokens as u64);
        page.histogram(Histogram::OutputTokens).observe(measures.generated as u64);
    }
}

fn is_well(reason: &FinishReason) -> bool {
    matches!(reason, FinishReason::EndId | FinishReason::StopWords | FinishReason::Length)
}
