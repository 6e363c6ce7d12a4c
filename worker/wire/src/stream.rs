//! The way of one request's outputs from the step thread to whoever reads them.
//!
//! Its memory is made when the request is submitted, and holds all that the request may bring: the
//! step thread never waits, allocates, or takes a lock that a reader holds, and a reader that is
//! slow keeps only its own tokens waiting, which then come in larger pieces. Logits are the exception:
//! they are allocated, since they are asked for rarely and bounded by
//! [`EngineLimits::max_logits_rows`](crate::EngineLimits::max_logits_rows).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crossbeam_queue::SegQueue;
use futures_util::task::AtomicWaker;

use crate::output::{Finished, Logits, Output, Tokens};
use crate::request::Request;

/// The writing end. One thread writes; it may be dropped at any time.
#[derive(Debug)]
pub struct OutputSink {
    shared: Arc<Shared>,
}

/// The outputs of one request.
#[derive(Debug)]
pub struct OutputStream {
    shared: Arc<Shared>,
    /// Per sequence.
    read: Vec<Progress>,
    ready: VecDeque<Output>,
}

#[derive(Debug)]
struct Shared {
    sequences: Box<[SequenceRing]>,
    logits: SegQueue<Logits>,
    waker: AtomicWaker,
    closed: AtomicBool,
}

/// The tokens of one sequence, each written once.
#[derive(Debug)]
struct SequenceRing {
    /// Tokens that an earlier engine generated.
    before: u32,
    tokens: Box<[AtomicU32]>,
    /// Bits of float32; empty unless wanted.
    log_probs: Box<[AtomicU32]>,
    /// Tokens that are there; the writer's.
    written: AtomicU32,
    finished: OnceLock<Finished>,
    /// Tokens that the reader may see, and [`FINISHED`] if it may see the end: what one iteration
    /// brings is seen at once.
    published: AtomicU64,
}

/// The bit of a sequence that has ended; the ones below count tokens.
const FINISHED: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    tokens: u32,
    finished: bool,
}

/// A stream with room for all that `request` may bring.
#[must_use]
pub fn output_stream(request: &Request) -> (OutputSink, OutputStream) {
    let sequences = request.search.sequences() as usize;
    let ring = |sequence: usize| {
        let resumed = request.resume.get(sequence);
        let before = resumed.map_or(0, |resumed| resumed.tokens.len());
        let left = (request.max_tokens as usize).saturating_sub(before);
        let zeros = |len: usize| (0..len).map(|_| AtomicU32::new(0)).collect();
        SequenceRing {
            before: before as u32,
            tokens: zeros(left),
            log_probs: zeros(if request.wanted.log_probs { left } else { 0 }),
            written: AtomicU32::new(0),
            finished: OnceLock::new(),
            published: AtomicU64::new(0),
        }
    };
    let finished = |sequence: usize| request.resume.get(sequence).is_some_and(|r| r.finished);
    let read = (0..sequences).map(|n| Progress { tokens: 0, finished: finished(n) }).collect();
    let shared = Arc::new(Shared {
        sequences: (0..sequences).map(ring).collect(),
        logits: SegQueue::new(),
        waker: AtomicWaker::new(),
        closed: AtomicBool::new(false),
    });
    (OutputSink { shared: shared.clone() }, OutputStream { shared, read, ready: VecDeque::new() })
}

impl OutputSink {
    /// Appends a token to a sequence; seen with the next [`OutputSink::publish`]. What is beyond
    /// `max_tokens`, or of no sequence, is dropped.
    pub fn push(&self, sequence: u32, token: u32, log_prob: f32) {
        let Some(ring) = self.shared.sequences.get(sequence as usize) else { return };
        let at = ring.written.load(Ordering::Relaxed) as usize;
        let Some(place) = ring.tokens.get(at) else { return };
        place.store(token, Ordering::Relaxed);
        if let Some(place) = ring.log_probs.get(at) {
            place.store(log_prob.to_bits(), Ordering::Relaxed);
        }
        ring.written.store(at as u32 + 1, Ordering::Relaxed);
    }

    /// How many tokens a sequence has, those of an earlier engine included.
    #[must_use]
    pub fn written(&self, sequence: u32) -> u32 {
        let ring = self.shared.sequences.get(sequence as usize);
        ring.map_or(0, |ring| ring.before + ring.written.load(Ordering::Relaxed))
    }

    /// Hands logits on; before the token that they belong to.
    pub fn logits(&self, logits: Logits) {
        self.shared.logits.push(logits);
    }

    /// Ends a sequence; seen with the next [`OutputSink::publish`]. What comes after is dropped.
    pub fn finish(&self, finished: Finished) {
        if let Some(ring) = self.shared.sequences.get(finished.sequence as usize) {
            let _ = ring.finished.set(finished);
        }
    }

    /// Lets the reader see all that has come, and wakes it if it waits.
    pub fn publish(&self) {
        for ring in &self.shared.sequences {
            let finished = if ring.finished.get().is_some() { FINISHED } else { 0 };
            let seen = u64::from(ring.written.load(Ordering::Relaxed)) | finished;
            ring.published.store(seen, Ordering::Release);
        }
        self.shared.waker.wake();
    }
}

impl Drop for OutputSink {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.publish();
    }
}

impl OutputStream {
    /// The next output; `None` after the request's end, or if its engine was lost before: then a
    /// sequence has no [`Finished`].
    pub async fn next(&mut self) -> Option<Output> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Whether all sequences have ended, and their outputs were read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.ready.is_empty() && self.read.iter().all(|read| read.finished)
    }

    fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Output>> {
        if let Some(output) = self.take() {
            return Poll::Ready(Some(output));
        }
        if self.is_finished() {
            return Poll::Ready(None);
        }
        self.shared.waker.register(context.waker());
        // What came before the registration woke nobody.
        let closed = self.shared.closed.load(Ordering::Acquire);
        match self.take() {
            Some(output) => Poll::Ready(Some(output)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// What is there now.
    fn take(&mut self) -> Option<Output> {
        if self.ready.is_empty() {
            self.collect();
        }
        self.ready.pop_front()
    }

    fn collect(&mut self) {
        // Looked at before the logits: those of a token are there before the token.
        let shared = &self.shared;
        let seen: Vec<(u32, bool)> = shared
            .sequences
            .iter()
            .map(|ring| {
                let published = ring.published.load(Ordering::Acquire);
                (published as u32, published & FINISHED != 0)
            })
            .collect();
        while let Some(logits) = shared.logits.pop() {
            self.ready.push_back(Output::Logits(logits));
        }
        for (sequence, ((ring, read), (written, finished))) in
            shared.sequences.iter().zip(&mut self.read).zip(seen).enumerate()
        {
            let new = read.tokens as usize..written as usize;
            if !new.is_empty() {
                let load = |places: &[AtomicU32]| -> Vec<u32> {
                    let places = places.get(new.clone()).unwrap_or_default();
                    places.iter().map(|place| place.load(Ordering::Relaxed)).collect()
                };
                self.ready.push_back(Output::Tokens(Tokens {
                    sequence: sequence as u32,
                    index: ring.before + read.tokens,
                    tokens: load(&ring.tokens),
                    log_probs: load(&ring.log_probs).into_iter().map(f32::from_bits).collect(),
                }));
                read.tokens = written;
            }
            if finished && !read.finished {
                read.finished = true;
                self.ready.extend(ring.finished.get().cloned().map(Output::Finished));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{FinishReason, LogitsOf, RequestId, Resumed, Search, Wanted};

    fn request(sequences: u32) -> Request {
        let mut request = Request::new(RequestId(1), vec![1], 4);
        request.search = Search::Sample { sequences };
        request.wanted = Wanted { log_probs: true, ..Wanted::default() };
        request
    }

    fn finished(sequence: u32) -> Finished {
        Finished { sequence, reason: FinishReason::Length, score: None, account: None }
    }

    fn tokens(sequence: u32, index: u32, tokens: &[u32]) -> Output {
        let log_probs = tokens.iter().map(|&token| -(token as f32)).collect();
        Output::Tokens(Tokens { sequence, index, tokens: tokens.to_vec(), log_probs })
    }

    fn next(stream: &mut OutputStream) -> Poll<Option<Output>> {
        stream.poll_next(&Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_slow_reader_gets_all_in_larger_pieces() {
        let (sink, mut stream) = output_stream(&request(1));
        assert_eq!(next(&mut stream), Poll::Pending);
        sink.push(0, 7, -7.0);
        assert_eq!(next(&mut stream), Poll::Pending);
        sink.publish();
        assert_eq!(next(&mut stream), Poll::Ready(Some(tokens(0, 0, &[7]))));
        sink.push(0, 8, -8.0);
        sink.push(0, 9, -9.0);
        sink.finish(finished(0));
        sink.publish();
        assert_eq!(next(&mut stream), Poll::Ready(Some(tokens(0, 1, &[8, 9]))));
        assert_eq!(next(&mut stream), Poll::Ready(Some(Output::Finished(finished(0)))));
        assert_eq!(next(&mut stream), Poll::Ready(None));
    }

    #[test]
    fn sequences_end_apart_and_logits_come_before_their_tokens() {
        let (sink, mut stream) = output_stream(&request(2));
        let logits =
            Logits { of: LogitsOf::Generation { sequence: 1, index: 0 }, values: vec![0.5] };
        sink.logits(logits.clone());
        sink.push(1, 3, -3.0);
        sink.finish(finished(1));
        sink.publish();
        assert_eq!(next(&mut stream), Poll::Ready(Some(Output::Logits(logits))));
        assert_eq!(next(&mut stream), Poll::Ready(Some(tokens(1, 0, &[3]))));
        assert_eq!(next(&mut stream), Poll::Ready(Some(Output::Finished(finished(1)))));
        assert_eq!(next(&mut stream), Poll::Pending);
        assert!(!stream.is_finished());
        sink.finish(finished(0));
        sink.publish();
        assert_eq!(next(&mut stream), Poll::Ready(Some(Output::Finished(finished(0)))));
        assert!(stream.is_finished());
    }

    #[test]
    fn what_an_earlier_engine_generated_counts_and_does_not_come_again() {
        let mut request = request(2);
        request.resume = vec![
            Resumed { tokens: vec![5, 6, 7], finished: false },
            Resumed { tokens: vec![5], finished: true },
        ];
        let (sink, mut stream) = output_stream(&request);
        assert_eq!(sink.written(0), 3);
        sink.push(0, 8, -8.0);
        sink.push(0, 9, -9.0); // one more than max_tokens
        sink.finish(finished(0));
        sink.publish();
        assert_eq!(next(&mut stream), Poll::Ready(Some(tokens(0, 3, &[8]))));
        assert_eq!(next(&mut stream), Poll::Ready(Some(Output::Finished(finished(0)))));
        assert_eq!(next(&mut stream), Poll::Ready(None));
    }

    #[test]
    fn a_writer_that_is_gone_ends_the_stream_without_a_finish() {
        let (sink, mut stream) = output_stream(&request(1));
        sink.push(0, 1, -1.0);
        drop(sink);
        assert_eq!(next(&mut stream), Poll::Ready(Some(tokens(0, 0, &[1]))));
        assert_eq!(next(&mut stream), Poll::Ready(None));
        assert!(!stream.is_finished());
    }

    #[tokio::test]
    async fn the_reader_is_woken() {
        let (sink, mut stream) = output_stream(&request(1));
        let reader = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        sink.push(0, 2, -2.0);
        sink.publish();
        assert_eq!(reader.await.unwrap(), Some(tokens(0, 0, &[2])));
    }
}
