//! Which word of a page holds what.
//!
//! A page is, in this order: the iteration record with its sequence word, the counters, the
//! gauges, the counters of each model, the histograms. All processes of a deployment run
//! one build, so the order may change from one version to the next.

use crate::iteration::RECORD_WORDS;

/// What only grows, for a process as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Tokens of the prompts that were computed. Leader.
    PromptTokens,
    /// Tokens that were sampled. Leader.
    GenerationTokens,
    /// Prompt tokens found in the cache instead of computed, parts of blocks included. Leader.
    KvReusedTokens,
    /// How often a request that ran lost its blocks to others. Leader.
    PausedRequests,
    /// Iterations executed. Every rank.
    Iterations,
    /// Microseconds spent in forward passes. Every rank.
    BusyUs,
}

impl Counter {
    const COUNT: usize = Self::BusyUs as usize + 1;

    pub(crate) fn word(self) -> usize {
        RECORD_WORDS + self as usize
    }
}

/// What is set once a rank knows it, and not shown before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Microseconds from the start of loading until the rank could compute.
    LoadUs,
    /// Bytes of this rank's weights as they lie in memory.
    WeightBytes,
    /// Bytes of this rank's KV cache.
    KvCacheBytes,
}

impl Gauge {
    const COUNT: usize = Self::KvCacheBytes as usize + 1;

    pub(crate) fn word(self) -> usize {
        RECORD_WORDS + Counter::COUNT + self as usize
    }
}

/// The models that clients know. A request to one of the first two counts there, in the gateway,
/// and once more as a request of [`Model::TensorrtLlm`], in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// Text in, text out.
    Ensemble,
    /// The same, with its own inputs.
    TensorrtLlmBls,
    /// Tokens in, tokens out: the engine itself.
    TensorrtLlm,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ensemble, Self::TensorrtLlmBls, Self::TensorrtLlm];

    /// The name in routes and labels, but for what [`ModelLabel`] adds to it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ensemble => "ensemble",
            Self::TensorrtLlmBls => "tensorrt_llm_bls",
            Self::TensorrtLlm => "tensorrt_llm",
        }
    }
}

/// What a model's three names are in routes and labels: those of the reference as they stand for a
/// deployment's default model, with the model's name behind them for others, as people who serve
/// several in the reference name their copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelLabel(Option<String>);

impl ModelLabel {
    /// Of the default model: `ensemble`, `tensorrt_llm_bls`, `tensorrt_llm`.
    #[must_use]
    pub fn plain() -> Self {
        Self(None)
    }

    /// Of another: `ensemble_{model}`, and so on.
    #[must_use]
    pub fn suffixed(model: &str) -> Self {
        Self(Some(model.to_owned()))
    }

    /// One of its names.
    #[must_use]
    pub fn name(&self, of: Model) -> String {
        match &self.0 {
            None => of.name().to_owned(),
            Some(model) => format!("{}_{model}", of.name()),
        }
    }
}

/// What is counted per model. A request adds one to exactly one of the first six. Where requests go
/// through several instances, the ends of [`Model::TensorrtLlm`] and the lengths of its requests are those
/// that the router tells: an instance can't know that a request goes on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelCounter {
    /// Requests that ended with all that was asked for.
    Succeeded,
    /// Requests refused because too many waited.
    Rejected,
    /// Requests whose client cancelled or left.
    Cancelled,
    /// Requests that the engine could not finish.
    Failed,
    /// Requests refused for another reason, such as a prompt beyond the context.
    Refused,
    /// Requests whose time was over, while they waited or while they ran.
    TimedOut,
    /// Microseconds from arrival to the last token, of the requests that succeeded.
    DurationUs,
    /// Microseconds from submission until an iteration first had the request in it. Engine.
    QueueUs,
}

impl ModelCounter {
    const COUNT: usize = Self::QueueUs as usize + 1;

    /// What is counted at a request's end.
    pub(crate) const ENDS: [Self; 7] = [
        Self::Succeeded,
        Self::Rejected,
        Self::Cancelled,
        Self::Failed,
        Self::Refused,
        Self::TimedOut,
        Self::DurationUs,
    ];

    pub(crate) fn word(self, model: Model) -> usize {
        RECORD_WORDS + Counter::COUNT + Gauge::COUNT + model as usize * Self::COUNT + self as usize
    }
}

/// What is counted by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// Prompt tokens of each finished request. Engine, or router.
    InputTokens,
    /// Generated tokens of each finished request. Engine, or router.
    OutputTokens,
    /// Microseconds from submission until an iteration first had the request in it. Leader.
    QueueUs,
    /// Microseconds from submission to a request's first token. Leader.
    FirstTokenUs,
    /// Microseconds from one token of a sequence to its next. Leader.
    InterTokenUs,
    /// Microseconds of each iteration, planning and sampling included. Leader.
    IterationUs,
    /// Microseconds from a request's arrival to its first response.
    FirstResponseUs(Model),
}

const TOKEN_BOUNDS: &[u64] = &[10, 50, 100, 500, 1000];
const FIRST_RESPONSE_BOUNDS_US: &[u64] = &[100_000, 500_000, 2_000_000, 5_000_000];
/// Of what a request waits for once: 1 ms to 60 s.
const WAIT_BOUNDS_US: &[u64] = &[
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000, 20_000_000, 60_000_000,
];
/// Of what happens with every token: 1 ms to 60 s, finer where tokens usually come.
const STEP_BOUNDS_US: &[u64] = &[
    1_000, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000, 50_000, 70_000, 100_000,
    150_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 60_000_000,
];

impl Histogram {
    /// Upper ends of the buckets, which they include; one more bucket holds the rest.
    pub(crate) fn bounds(self) -> &'static [u64] {
        match self {
            Self::InputTokens | Self::OutputTokens => TOKEN_BOUNDS,
            Self::QueueUs | Self::FirstTokenUs => WAIT_BOUNDS_US,
            Self::InterTokenUs | Self::IterationUs => STEP_BOUNDS_US,
            Self::FirstResponseUs(_) => FIRST_RESPONSE_BOUNDS_US,
        }
    }

    pub(crate) fn word(self) -> usize {
        let first =
            ModelCounter::Succeeded.word(Model::Ensemble) + Model::ALL.len() * ModelCounter::COUNT;
        let waits = 2 * words_of(TOKEN_BOUNDS);
        let steps = waits + 2 * words_of(WAIT_BOUNDS_US);
        let responses = steps + 2 * words_of(STEP_BOUNDS_US);
        let offset = match self {
            Self::InputTokens => 0,
            Self::OutputTokens => words_of(TOKEN_BOUNDS),
            Self::QueueUs => waits,
            Self::FirstTokenUs => waits + words_of(WAIT_BOUNDS_US),
            Self::InterTokenUs => steps,
            Self::IterationUs => steps + words_of(STEP_BOUNDS_US),
            Self::FirstResponseUs(model) => {
                responses + model as usize * words_of(FIRST_RESPONSE_BOUNDS_US)
            }
        };
        first + offset
    }

    /// Words of this histogram: its buckets, the last one, the sum.
    pub(crate) fn words(self) -> usize {
        words_of(self.bounds())
    }
}

fn words_of(bounds: &[u64]) -> usize {
    bounds.len() + 2
}

/// Words of a whole page.
pub(crate) fn page_words() -> usize {
    let last = Histogram::FirstResponseUs(Model::TensorrtLlm);
    last.word() + last.words()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_has_two_meanings() {
        let mut words: Vec<usize> = (0..RECORD_WORDS).collect();
        words.extend(
            [
                Counter::PromptTokens,
                Counter::GenerationTokens,
                Counter::KvReusedTokens,
                Counter::PausedRequests,
                Counter::Iterations,
                Counter::BusyUs,
            ]
            .map(Counter::word),
        );
        words.extend([Gauge::LoadUs, Gauge::WeightBytes, Gauge::KvCacheBytes].map(Gauge::word));
        for model in Model::ALL {
            use ModelCounter::*;
            let counters =
                [Succeeded, Rejected, Cancelled, Failed, Refused, TimedOut, DurationUs, QueueUs];
            words.extend(counters.map(|counter| counter.word(model)));
        }
        let of_the_engine = [
            Histogram::InputTokens,
            Histogram::OutputTokens,
            Histogram::QueueUs,
            Histogram::FirstTokenUs,
            Histogram::InterTokenUs,
            Histogram::IterationUs,
        ];
        let histograms =
            of_the_engine.into_iter().chain(Model::ALL.map(Histogram::FirstResponseUs));
        for histogram in histograms {
            words.extend(histogram.word()..histogram.word() + histogram.words());
        }
        assert_eq!(words, (0..page_words()).collect::<Vec<_>>());
    }

    #[test]
    fn bounds_rise() {
        for bounds in [TOKEN_BOUNDS, FIRST_RESPONSE_BOUNDS_US, WAIT_BOUNDS_US, STEP_BOUNDS_US] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
