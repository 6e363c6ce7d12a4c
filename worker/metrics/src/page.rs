//! One process's page of numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use shardrun_shm::{Segment, ShmError, rank_prefix};

use crate::layout::page_words;
use crate::{Counter, Gauge, Histogram, Iteration, Model, ModelCounter, iteration};

/// A page in shared memory, named `{prefix}{rank}_metrics`, or a copy of one. Any thread may write, at
/// the cost of one or two atomic additions.
#[derive(Debug)]
pub struct MetricsPage {
    words: Words,
}

#[derive(Debug)]
enum Words {
    Shared(Segment),
    InMemory(Box<[AtomicU64]>),
}

impl MetricsPage {
    /// Makes the page of this process, all zeros.
    ///
    /// # Errors
    /// [`ShmError::InUse`] if a running process has this prefix and rank.
    pub fn create(prefix: &str, rank: usize) -> Result<Self, ShmError> {
        Segment::create(&name(prefix, rank), page_words() * 8).map(Self::shared)
    }

    /// Maps another process's page.
    ///
    /// # Errors
    /// [`ShmError::Io`] if there is none yet; [`ShmError::Foreign`] if another build made it.
    pub fn open(prefix: &str, rank: usize) -> Result<Self, ShmError> {
        Segment::open(&name(prefix, rank), page_words() * 8).map(Self::shared)
    }

    /// A page that no other process sees, all zeros: what another node's is copied to.
    #[must_use]
    pub fn in_memory() -> Self {
        let words = (0..page_words()).map(|_| AtomicU64::new(0)).collect();
        Self { words: Words::InMemory(words) }
    }

    fn shared(segment: Segment) -> Self {
        Self { words: Words::Shared(segment) }
    }

    /// All words as they are now, for a copy in another process.
    #[must_use]
    pub fn words_now(&self) -> Vec<u64> {
        let mut words = iteration::read_words(self.words());
        let others = &self.words()[words.len()..];
        words.extend(others.iter().map(|word| word.load(Ordering::Relaxed)));
        words
    }

    /// Makes this a copy of the page that `words` were read from. Words of another length come of
    /// another build, and change nothing.
    pub(crate) fn set_words(&self, words: &[u64]) {
        if words.len() != page_words() {
            return;
        }
        let counted = iteration::write_words(self.words(), words);
        for (word, &value) in self.words().iter().zip(words).skip(counted) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// A counter of this process.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> CounterCell<'_> {
        CounterCell(&self.words()[counter.word()])
    }

    /// A gauge of this process.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> GaugeCell<'_> {
        GaugeCell(&self.words()[gauge.word()])
    }

    /// A counter of one model.
    #[must_use]
    pub fn model(&self, model: Model, counter: ModelCounter) -> CounterCell<'_> {
        CounterCell(&self.words()[counter.word(model)])
    }

    /// A histogram.
    #[must_use]
    pub fn histogram(&self, histogram: Histogram) -> HistogramCell<'_> {
        let words = &self.words()[histogram.word()..][..histogram.words()];
        HistogramCell { words, bounds: histogram.bounds() }
    }

    /// Adds to this page, which belongs to whoever routes requests, what a rank has counted that is gone,
    /// so that it stays counted. What belongs to a rank and an iteration leaves with it, and so do its
    /// ends of requests: they are counted here already.
    pub fn absorb(&self, gone: &Self) {
        let ranks = [Counter::Iterations.word(), Counter::BusyUs.word()];
        let ends = ModelCounter::ENDS.map(|counter| counter.word(Model::TensorrtLlm));
        let left: Vec<usize> = ranks.into_iter().chain(ends).collect();
        let lengths = [Histogram::InputTokens, Histogram::OutputTokens]
            .map(|lengths| lengths.word()..lengths.word() + lengths.words());
        for word in (Counter::PromptTokens.word()..Gauge::LoadUs.word())
            .chain(ModelCounter::Succeeded.word(Model::Ensemble)..page_words())
            .filter(|word| !left.contains(word) && !lengths.iter().any(|of| of.contains(word)))
        {
            let counted = gone.words()[word].load(Ordering::Relaxed);
            self.words()[word].fetch_add(counted, Ordering::Relaxed);
        }
    }

    /// Publishes what the latest iteration did. One thread of the leader does this, also when it
    /// falls idle, so that the last numbers shown are those of an idle engine.
    pub fn publish(&self, iteration: &Iteration) {
        iteration::write(self.words(), iteration);
    }

    /// The latest iteration; `None` before the first.
    #[must_use]
    pub fn iteration(&self) -> Option<Iteration> {
        iteration::read(self.words())
    }

    fn words(&self) -> &[AtomicU64] {
        match &self.words {
            Words::Shared(segment) => segment.words(),
            Words::InMemory(words) => words,
        }
    }
}

fn name(prefix: &str, rank: usize) -> String {
    rank_prefix(prefix, rank) + "metrics"
}

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct CounterCell<'a>(&'a AtomicU64);

impl CounterCell<'_> {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set.
#[derive(Clone, Copy, Debug)]
pub struct GaugeCell<'a>(&'a AtomicU64);

impl GaugeCell<'_> {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value; 0 before it was set.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of values by size.
///
/// The count is the sum of the buckets, so a scrape's buckets and count always agree. Its sum may
/// be ahead or behind by the values that are being observed at that moment.
#[derive(Clone, Copy, Debug)]
pub struct HistogramCell<'a> {
    /// One word a bucket, the bucket of the rest, the sum.
    words: &'a [AtomicU64],
    bounds: &'static [u64],
}

impl HistogramCell<'_> {
    /// Counts one value, in the histogram's unit.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.words[bucket].fetch_add(1, Ordering::Relaxed);
        self.words[self.bounds.len() + 1].fetch_add(value, Ordering::Relaxed);
    }

    /// How many values each bucket got, that of the rest last.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = u64> {
        self.words[..=self.bounds.len()].iter().map(|word| word.load(Ordering::Relaxed))
    }

    /// The sum of all values.
    pub(crate) fn sum(&self) -> u64 {
        self.words[self.bounds.len() + 1].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn unique(what: &str) -> String {
        format!("shardrun_test_{}_{what}_", std::process::id())
    }

    #[test]
    fn another_process_reads_what_was_counted() {
        let prefix = unique("page");
        assert!(matches!(MetricsPage::open(&prefix, 3), Err(ShmError::Io { .. })));
        let mine = MetricsPage::create(&prefix, 3).unwrap();
        let theirs = MetricsPage::open(&prefix, 3).unwrap();
        mine.counter(Counter::GenerationTokens).add(40);
        mine.counter(Counter::GenerationTokens).add(2);
        mine.gauge(Gauge::WeightBytes).set(7);
        mine.model(Model::TensorrtLlmBls, ModelCounter::Rejected).add(1);
        assert_eq!(theirs.counter(Counter::GenerationTokens).get(), 42);
        assert_eq!(theirs.gauge(Gauge::WeightBytes).get(), 7);
        assert_eq!(theirs.model(Model::TensorrtLlmBls, ModelCounter::Rejected).get(), 1);
        assert_eq!(theirs.model(Model::Ensemble, ModelCounter::Rejected).get(), 0);
        assert!(matches!(MetricsPage::create(&prefix, 3), Err(ShmError::InUse { .. })));
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let page = MetricsPage::create(&unique("buckets"), 0).unwrap();
        let histogram = page.histogram(Histogram::InputTokens);
        for tokens in [0, 10, 11, 1000, 1001, u64::from(u32::MAX)] {
            histogram.observe(tokens);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [2, 1, 0, 0, 1, 2]);
        assert_eq!(histogram.sum(), 10 + 11 + 1000 + 1001 + u64::from(u32::MAX));
        assert_eq!(page.histogram(Histogram::OutputTokens).buckets().sum::<u64>(), 0);
    }

    #[test]
    fn what_the_dead_counted_stays_counted() {
        let gone = MetricsPage::create(&unique("gone"), 0).unwrap();
        gone.counter(Counter::PausedRequests).add(3);
        gone.counter(Counter::BusyUs).add(4);
        gone.gauge(Gauge::LoadUs).set(5);
        gone.model(Model::Ensemble, ModelCounter::Succeeded).add(6);
        gone.model(Model::TensorrtLlm, ModelCounter::Failed).add(7);
        gone.model(Model::TensorrtLlm, ModelCounter::QueueUs).add(9);
        gone.histogram(Histogram::OutputTokens).observe(7);
        gone.histogram(Histogram::FirstResponseUs(Model::TensorrtLlm)).observe(7);
        gone.publish(&Iteration { active_requests: 8, ..Iteration::default() });
        let page = MetricsPage::create(&unique("heir"), 0).unwrap();
        page.model(Model::Ensemble, ModelCounter::Succeeded).add(1);
        page.absorb(&gone);
        assert_eq!(page.counter(Counter::PausedRequests).get(), 3);
        assert_eq!(page.model(Model::Ensemble, ModelCounter::Succeeded).get(), 7);
        assert_eq!(page.model(Model::TensorrtLlm, ModelCounter::QueueUs).get(), 9);
        let first = page.histogram(Histogram::FirstResponseUs(Model::TensorrtLlm));
        assert_eq!((first.buckets().sum::<u64>(), first.sum()), (1, 7));
        assert_eq!(page.counter(Counter::BusyUs).get(), 0, "a rank's own");
        assert_eq!(page.model(Model::TensorrtLlm, ModelCounter::Failed).get(), 0, "the router's");
        assert_eq!(page.histogram(Histogram::OutputTokens).sum(), 0, "the router's");
        assert_eq!(page.gauge(Gauge::LoadUs).get(), 0, "a rank's own");
        assert_eq!(page.iteration(), None);
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let page = MetricsPage::create(&unique("threads"), 0).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        page.counter(Counter::PromptTokens).add(3);
                        page.histogram(Histogram::OutputTokens).observe(20);
                    }
                });
            }
        });
        assert_eq!(page.counter(Counter::PromptTokens).get(), 120_000);
        assert_eq!(page.histogram(Histogram::OutputTokens).buckets().nth(1), Some(40_000));
    }
}
