//! Where the outputs of each request go, and what is counted about it.

use std::collections::HashMap;
use std::time::Instant;

use shardrun_metrics::{Counter, Histogram, MetricsPage, Model, ModelCounter};
use shardrun_wire::{FinishReason, Output, RequestId};
use tokio::sync::mpsc::UnboundedSender;

/// The requests that the step thread has taken and not yet ended.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    entries: HashMap<RequestId, Entry>,
}

#[derive(Debug)]
struct Entry {
    outputs: UnboundedSender<Output>,
    submitted: Instant,
    started: bool,
    prompt_tokens: usize,
    generated: usize,
}

impl Requests {
    pub(crate) fn add(
        &mut self,
        id: RequestId,
        outputs: UnboundedSender<Output>,
        submitted: Instant,
        prompt_tokens: usize,
    ) {
        let entry = Entry { outputs, submitted, started: false, prompt_tokens, generated: 0 };
        self.entries.insert(id, entry);
    }

    /// Notes that an iteration has the request in it for the first time.
    pub(crate) fn start(&mut self, id: RequestId, page: &MetricsPage) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.started = true;
            let waited = entry.submitted.elapsed().as_micros() as u64;
            page.model(Model::TensorrtLlm, ModelCounter::QueueUs).add(waited);
        }
    }

    /// Hands an output on. Says whether the request ended without ever having started.
    pub(crate) fn deliver(&mut self, output: Output, page: &MetricsPage) -> bool {
        let id = output.id;
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if entry.generated == 0 && !output.tokens.is_empty() {
            let first = Histogram::FirstResponseUs(Model::TensorrtLlm);
            page.histogram(first).observe(entry.submitted.elapsed().as_micros() as u64);
        }
        entry.generated += output.tokens.len();
        page.counter(Counter::GenerationTokens).add(output.tokens.len() as u64);
        let finish = output.finish.clone();
        // A receiver that is gone has cancelled, or is about to.
        let _ = entry.outputs.send(output);
        let Some(finish) = finish else { return false };
        entry.count(&finish, page);
        self.entries.remove(&id).is_some_and(|entry| !entry.started)
    }
}

impl Entry {
    fn count(&self, finish: &FinishReason, page: &MetricsPage) {
        let count = |counter, n| page.model(Model::TensorrtLlm, counter).add(n);
        match finish {
            FinishReason::EndId | FinishReason::Length => {
                count(ModelCounter::Succeeded, 1);
                count(ModelCounter::DurationUs, self.submitted.elapsed().as_micros() as u64);
            }
            FinishReason::Cancelled => count(ModelCounter::Cancelled, 1),
            FinishReason::Failed(_) => count(ModelCounter::Failed, 1),
        }
        page.histogram(Histogram::InputTokens).observe(self.prompt_tokens as u64);
        page.histogram(Histogram::OutputTokens).observe(self.generated as u64);
    }
}
