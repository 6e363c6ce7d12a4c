//! Where the outputs of each request go, and what is noted about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shardrun_metrics::{Counter, Histogram, MetricsPage, Model, ModelCounter};
use shardrun_wire::{
    BeamScore, BlockCounts, FinishReason, Finished, Logits, OutputSink, Request, RequestAccount,
    RequestId,
};

use crate::guide::{CompiledGuide, MaskWorker};

/// The requests that the step thread has taken and not yet ended.
#[derive(Debug)]
pub(crate) struct Requests {
    entries: HashMap<RequestId, Entry>,
    /// The same moment on both clocks.
    began: Instant,
    began_ns: u64,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Entry {
    sink: OutputSink,
    guided: Option<Guided>,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    prompt_tokens: usize,
    generated: usize,
    /// Its first token came from an earlier engine.
    resumed: bool,
}

/// A request that has just been taken.
pub(crate) struct Arrival {
    id: RequestId,
    sink: OutputSink,
    guided: Option<Guided>,
    submitted: Instant,
    prompt_tokens: usize,
    resumed: bool,
}

/// What guided sequences begin with.
#[derive(Debug)]
struct Guided {
    guide: CompiledGuide,
    /// Sequences that haven't ended, with the tokens that they have.
    sequences: Vec<(u32, Vec<u32>)>,
}

impl Arrival {
    pub(crate) fn new(
        request: &Request,
        guide: Option<CompiledGuide>,
        sink: OutputSink,
        submitted: Instant,
    ) -> Self {
        let begin = |sequence: u32| match request.resume.get(sequence as usize) {
            None => Some((sequence, Vec::new())),
            Some(resumed) => (!resumed.finished).then(|| (sequence, resumed.tokens.clone())),
        };
        let sequences = || (0..request.search.sequences()).filter_map(begin).collect();
        let guided = guide.map(|guide| Guided { guide, sequences: sequences() });
        let (id, prompt_tokens) = (request.id, request.prompt.len());
        let resumed = request.resume.iter().any(|resumed| !resumed.tokens.is_empty());
        Self { id, sink, guided, submitted, prompt_tokens, resumed }
    }
}

impl Requests {
    pub(crate) fn new(began: Instant) -> Self {
        let ns = monotonic_ns().saturating_sub(began.elapsed().as_nanos() as u64);
        Self { entries: HashMap::new(), began, began_ns: ns }
    }

    pub(crate) fn add(&mut self, arrival: Arrival) {
        let Arrival { id, sink, guided, submitted, prompt_tokens, resumed } = arrival;
        let entry = Entry {
            sink,
            guided,
            submitted,
            started: None,
            first_token: None,
            last_token: None,
            prompt_tokens,
            generated: 0,
            resumed,
        };
        self.entries.insert(id, entry);
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn is_guided(&self, id: RequestId) -> bool {
        self.get(id).is_some_and(Entry::is_guided)
    }

    /// Notes that it left the queue; gives how long it waited.
    pub(crate) fn start(&mut self, id: RequestId, now: Instant, page: &MetricsPage) -> Duration {
        let Some(entry) = self.entries.get_mut(&id) else { return Duration::ZERO };
        entry.started = Some(now);
        let waited = now.saturating_duration_since(entry.submitted);
        page.model(Model::TensorrtLlm, ModelCounter::QueueUs).add(microseconds(waited));
        page.histogram(Histogram::QueueUs).observe(microseconds(waited));
        waited
    }

    /// Hands a token on.
    pub(crate) fn token(&mut self, id: RequestId, token: SequenceToken, page: &MetricsPage) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let SequenceToken { sequence, token, log_prob, now } = token;
        match (entry.last_token, sequence) {
            (None, _) => {
                if !entry.resumed {
                    let age = microseconds(now.saturating_duration_since(entry.submitted));
                    page.histogram(Histogram::FirstResponseUs(Model::TensorrtLlm)).observe(age);
                    page.histogram(Histogram::FirstTokenUs).observe(age);
                }
                entry.first_token = Some(now);
            }
            (Some(last), 0) => {
                let gap = microseconds(now.saturating_duration_since(last));
                page.histogram(Histogram::InterTokenUs).observe(gap);
            }
            (Some(_), _) => {}
        }
        // The others' tokens of this iteration follow.
        if sequence == 0 || entry.last_token.is_none() {
            entry.last_token = Some(now);
        }
        entry.generated += 1;
        page.counter(Counter::GenerationTokens).add(1);
        entry.sink.push(sequence, token, log_prob);
    }

    /// Lets its client see what has come.
    pub(crate) fn publish(&self, id: RequestId) {
        if let Some(entry) = self.get(id) {
            entry.sink.publish();
        }
    }

    /// Ends a sequence, and with its last one the request. Says whether the request ended, and
    /// whether it had started.
    pub(crate) fn finish(
        &mut self,
        id: RequestId,
        end: SequenceEnd,
        page: &MetricsPage,
    ) -> Option<Ended> {
        let entry = self.entries.get(&id)?;
        let SequenceEnd { sequence, reason, score, blocks } = end;
        if blocks.is_some() {
            entry.count(&reason, page);
        }
        let account = blocks.map(|blocks| RequestAccount {
            arrival_ns: self.nanoseconds(Some(entry.submitted)),
            first_scheduled_ns: self.nanoseconds(entry.started),
            first_token_ns: self.nanoseconds(entry.first_token),
            last_token_ns: self.nanoseconds(entry.last_token),
            blocks,
        });
        entry.sink.finish(Finished { sequence, reason, score, account });
        let ended = Ended { started: entry.started.is_some() };
        blocks.is_some().then(|| {
            self.entries.remove(&id);
            ended
        })
    }

    fn nanoseconds(&self, at: Option<Instant>) -> u64 {
        at.map_or(0, |at| {
            // A request may have been submitted before the engine was ready to begin.
            let since = at.saturating_duration_since(self.began).as_nanos() as u64;
            let before = self.began.saturating_duration_since(at).as_nanos() as u64;
            (self.began_ns + since).saturating_sub(before)
        })
    }
}

/// A token of one of a request's sequences.
pub(crate) struct SequenceToken {
    pub(crate) sequence: u32,
    pub(crate) token: u32,
    pub(crate) log_prob: f32,
    pub(crate) now: Instant,
}

/// The end of one of a request's sequences.
pub(crate) struct SequenceEnd {
    pub(crate) sequence: u32,
    pub(crate) reason: FinishReason,
    pub(crate) score: Option<BeamScore>,
    /// The request's, if it ended.
    pub(crate) blocks: Option<BlockCounts>,
}

/// A request that ended.
pub(crate) struct Ended {
    pub(crate) started: bool,
}

impl Entry {
    /// Hands logits on, before the token that they belong to.
    pub(crate) fn logits(&self, logits: Logits) {
        self.sink.logits(logits);
    }

    pub(crate) fn is_guided(&self) -> bool {
        self.guided.is_some()
    }

    /// Begins to guide its sequences, if it is guided.
    pub(crate) fn guide_sequences(&self, id: RequestId, guides: &mut MaskWorker) {
        let Some(Guided { guide, sequences }) = &self.guided else { return };
        let mut fresh = None;
        for (sequence, tokens) in sequences {
            let key = (id, *sequence);
            match fresh {
                Some(first) if tokens.is_empty() => guides.fork(first, key),
                _ => guides.start(key, guide, tokens),
            }
            fresh = fresh.or(tokens.is_empty().then_some(key));
        }
    }

    /// Tokens that a sequence has, those of an earlier engine included.
    pub(crate) fn written(&self, sequence: u32) -> u32 {
        self.sink.written(sequence)
    }

    fn count(&self, finish: &FinishReason, page: &MetricsPage) {
        let count = |counter, n| page.model(Model::TensorrtLlm, counter).add(n);
        match finish {
            FinishReason::EndId | FinishReason::StopWords | FinishReason::Length => {
                count(ModelCounter::Succeeded, 1);
                count(ModelCounter::DurationUs, microseconds(self.submitted.elapsed()));
            }
            FinishReason::TimedOut | FinishReason::Expired => count(ModelCounter::TimedOut, 1),
            FinishReason::Cancelled => count(ModelCounter::Cancelled, 1),
            FinishReason::Failed(_) => count(ModelCounter::Failed, 1),
        }
        page.histogram(Histogram::InputTokens).observe(self.prompt_tokens as u64);
        page.histogram(Histogram::OutputTokens).observe(self.generated as u64);
    }
}

pub(crate) fn microseconds(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// Nanoseconds of the clock that clients on this machine see as monotonic.
fn monotonic_ns() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    nix::time::clock_gettime(clock)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use shardrun_metrics::{ModelLabel, PageOf, render};
    use shardrun_wire::{Resumed, output_stream};

    use super::*;

    #[test]
    fn the_first_token_of_a_request_is_that_of_its_first_engine() {
        let page = std::sync::Arc::new(MetricsPage::in_memory());
        let begin = Instant::now();
        let mut requests = Requests::new(begin);
        for (id, resumed) in [(1, vec![]), (2, vec![5]), (3, vec![])] {
            let mut request = Request::new(RequestId(id), vec![1], 4);
            if id > 1 {
                request.resume = vec![Resumed { tokens: resumed, finished: false }];
            }
            let (sink, _outputs) = output_stream(&request);
            requests.add(Arrival::new(&request, None, sink, begin));
            for ms in [2, 3] {
                let now = begin + Duration::from_millis(ms);
                let token = SequenceToken { sequence: 0, token: 7, log_prob: 0.0, now };
                requests.token(RequestId(id), token, &page);
            }
        }
        let text = render(&[PageOf { model: ModelLabel::plain(), rank: None, page }]);
        for (name, count) in [
            ("shardrun_time_to_first_token_seconds", 2),
            ("nv_inference_first_response_histogram_ms", 2),
            ("shardrun_inter_token_seconds", 3),
        ] {
            let line = format!("{name}_count{{model=\"tensorrt_llm\",version=\"1\"}} {count}");
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
