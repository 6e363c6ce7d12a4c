//! What a scrape shows of the pages.

use std::sync::Arc;

use crate::exposition::{Exposition, HistogramTotal, Sample};
use crate::{Counter, Gauge, Histogram, Iteration, MetricsPage, Model, ModelCounter, names};

/// The content type of what [`render`] gives.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A page and whose it is.
#[derive(Clone, Debug)]
pub struct PageOf {
    /// Rank in the world.
    pub rank: u32,
    /// Rank among those that share a layer.
    pub tp_rank: u32,
    /// The node's name.
    pub node: String,
    /// The numbers.
    pub page: Arc<MetricsPage>,
}

/// All that the pages tell, in the Prometheus text format, version 0.0.4.
///
/// Counters and histograms are sums over the pages; what describes an iteration is the leader's,
/// the page of the lowest rank that published one. A family that nobody feeds yet is left out.
#[must_use]
pub fn render(pages: &[PageOf]) -> String {
    let mut text = Exposition::default();
    models(&mut text, pages);
    let leader = pages
        .iter()
        .filter_map(|of| Some((of.rank, of.page.iteration()?, &*of.page)))
        .min_by_key(|&(rank, ..)| rank);
    if let Some((_, iteration, page)) = leader {
        engine(&mut text, &iteration, page.counter(Counter::Iterations).get());
    }
    totals(&mut text, pages);
    times(&mut text, pages);
    ranks(&mut text, pages);
    text.encode()
}

/// What the server's core counts, per model.
fn models(text: &mut Exposition, pages: &[PageOf]) {
    let total = |model, counter| -> u64 {
        pages.iter().map(|of| of.page.model(model, counter).get()).sum()
    };
    let per_model = |counter| {
        Model::ALL.map(|model| Sample::new(total(model, counter) as f64).model(model)).to_vec()
    };
    if pages.is_empty() {
        return;
    }
    text.add(&names::REQUEST_SUCCESS, per_model(ModelCounter::Succeeded));
    let reasons: [(_, &[ModelCounter]); 4] = [
        ("REJECTED", &[ModelCounter::Rejected]),
        ("CANCELED", &[ModelCounter::Cancelled]),
        ("BACKEND", &[ModelCounter::Failed]),
        ("OTHER", &[ModelCounter::Refused, ModelCounter::TimedOut]),
    ];
    let failures = Model::ALL.iter().flat_map(|&model| {
        reasons.map(|(reason, counters)| {
            let count: u64 = counters.iter().map(|&counter| total(model, counter)).sum();
            Sample::new(count as f64).model(model).label("reason", reason)
        })
    });
    text.add(&names::REQUEST_FAILURE, failures.collect());
    text.add(&names::TIMED_OUT, per_model(ModelCounter::TimedOut));
    text.add(&names::INFERENCE_COUNT, per_model(ModelCounter::Succeeded));
    text.add(&names::EXEC_COUNT, per_model(ModelCounter::Succeeded));
    text.add(&names::REQUEST_DURATION, per_model(ModelCounter::DurationUs));
    let queued = total(Model::TensorrtLlm, ModelCounter::QueueUs);
    text.add(&names::QUEUE_DURATION, vec![Sample::new(queued as f64).model(Model::TensorrtLlm)]);
    let first_response = Model::ALL.map(|model| {
        let buckets = HistogramTotal::of(pages, Histogram::FirstResponseUs(model), 1000.0);
        Sample::new(buckets).model(model)
    });
    text.add(&names::FIRST_RESPONSE, first_response.to_vec());
    let slowest = pages.iter().map(|of| of.page.gauge(Gauge::LoadUs).get()).max();
    if let Some(us @ 1..) = slowest {
        text.add(&names::MODEL_LOAD, vec![Sample::new(seconds(us)).model(Model::TensorrtLlm)]);
    }
}

/// What the engine says about its latest iteration.
fn engine(text: &mut Exposition, iteration: &Iteration, iterations: u64) {
    let by = |label: &'static str, values: &[(&'static str, f64)]| {
        values
            .iter()
            .map(|&(name, value)| Sample::new(value).model(Model::TensorrtLlm).label(label, name))
            .collect()
    };
    let waiting = iteration.waiting_requests as f64;
    text.add(&names::PENDING_REQUESTS, vec![Sample::new(waiting).model(Model::TensorrtLlm)]);
    let requests = [
        ("active", iteration.active_requests as f64),
        ("max", iteration.max_requests as f64),
        ("scheduled", iteration.scheduled_requests as f64),
        ("context", iteration.context_requests as f64),
        ("waiting", waiting),
    ];
    text.add(&names::LLM_REQUESTS, by("request_type", &requests));
    let fraction = match iteration.kv_blocks_max {
        0 => 0.0,
        max => iteration.kv_blocks_used as f64 / max as f64,
    };
    let blocks = [
        ("max", iteration.kv_blocks_max as f64),
        ("free", iteration.kv_blocks_free as f64),
        ("used", iteration.kv_blocks_used as f64),
        ("tokens_per", iteration.tokens_per_kv_block as f64),
        ("reused", iteration.kv_blocks_reused as f64),
        ("fraction", fraction),
    ];
    text.add(&names::LLM_KV_BLOCKS, by("kv_cache_block_type", &blocks));
    let context_tokens = ("total_context_tokens", iteration.context_tokens as f64);
    if iteration.static_batching {
        let batch = [
            context_tokens,
            ("total_generation_tokens", iteration.generation_tokens as f64),
            ("empty_generation_slots", iteration.empty_slots as f64),
        ];
        text.add(&names::LLM_STATIC, by("v1_specific_metric", &batch));
    } else {
        let inflight = [
            context_tokens,
            ("generation_requests", iteration.generation_requests as f64),
            // There is one micro-batch.
            ("micro_batch_id", 0.0),
            ("paused_requests", iteration.paused_requests as f64),
        ];
        text.add(&names::LLM_INFLIGHT, by("inflight_batcher_specific_metric", &inflight));
    }
    let general =
        [("timestamp", iteration.timestamp_us as f64), ("iteration_counter", iterations as f64)];
    text.add(&names::LLM_GENERAL, by("general_type", &general));
    let looked_for = [
        (&names::KV_REUSED_BLOCKS, iteration.kv_blocks_reused),
        (&names::KV_MISSED_BLOCKS, iteration.kv_blocks_missed),
    ];
    for (family, blocks) in looked_for {
        text.add(family, vec![Sample::new(blocks as f64).model(Model::TensorrtLlm)]);
    }
}

/// What the engine has counted over all requests.
fn totals(text: &mut Exposition, pages: &[PageOf]) {
    if pages.is_empty() {
        return;
    }
    let lengths = [
        (&names::INPUT_TOKENS, Histogram::InputTokens, "total_input_tokens"),
        (&names::OUTPUT_TOKENS, Histogram::OutputTokens, "total_output_tokens"),
    ];
    for (family, histogram, name) in lengths {
        let sample = Sample::new(HistogramTotal::of(pages, histogram, 1.0))
            .model(Model::TensorrtLlm)
            .label("response_metric_type", name);
        text.add(family, vec![sample]);
    }
    let totals = [
        (&names::PROMPT_TOKENS, Counter::PromptTokens),
        (&names::GENERATION_TOKENS, Counter::GenerationTokens),
        (&names::KV_REUSED_TOKENS, Counter::KvReusedTokens),
        (&names::PAUSED_REQUESTS, Counter::PausedRequests),
    ];
    for (family, counter) in totals {
        let total: u64 = pages.iter().map(|of| of.page.counter(counter).get()).sum();
        text.add(family, vec![Sample::new(total as f64).model(Model::TensorrtLlm)]);
    }
}

/// How long things took in the engine.
fn times(text: &mut Exposition, pages: &[PageOf]) {
    if pages.is_empty() {
        return;
    }
    let times = [
        (&names::QUEUE, Histogram::QueueUs),
        (&names::FIRST_TOKEN, Histogram::FirstTokenUs),
        (&names::INTER_TOKEN, Histogram::InterTokenUs),
        (&names::ITERATION, Histogram::IterationUs),
    ];
    for (family, histogram) in times {
        let total = HistogramTotal::of(pages, histogram, 1e6);
        text.add(family, vec![Sample::new(total).model(Model::TensorrtLlm)]);
    }
}

/// What each rank says about itself.
fn ranks(text: &mut Exposition, pages: &[PageOf]) {
    let per_rank = |value: &dyn Fn(&MetricsPage) -> Option<f64>| {
        pages.iter().filter_map(|of| Some(Sample::new(value(&of.page)?).rank(of))).collect()
    };
    let set = |page: &MetricsPage, gauge| Some(page.gauge(gauge).get()).filter(|&value| value > 0);
    text.add(&names::RANK_LOAD, per_rank(&|page| set(page, Gauge::LoadUs).map(seconds)));
    text.add(
        &names::RANK_WEIGHTS,
        per_rank(&|page| set(page, Gauge::WeightBytes).map(|bytes| bytes as f64)),
    );
    text.add(
        &names::RANK_KV_CACHE,
        per_rank(&|page| set(page, Gauge::KvCacheBytes).map(|bytes| bytes as f64)),
    );
    text.add(
        &names::RANK_ITERATIONS,
        per_rank(&|page| Some(page.counter(Counter::Iterations).get() as f64)),
    );
    text.add(
        &names::RANK_BUSY,
        per_rank(&|page| Some(seconds(page.counter(Counter::BusyUs).get()))),
    );
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
