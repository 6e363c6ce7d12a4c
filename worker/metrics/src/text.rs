//! What a scrape shows of the pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::exposition::{Exposition, HistogramTotal, Sample};
use crate::route::routes as routed;
use crate::{
    Counter, Gauge, Histogram, Iteration, MetricsPage, Model, ModelCounter, ModelLabel, RouteOf,
    names,
};

/// The content type of what [`render`] gives.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A page and whose it is.
#[derive(Clone, Debug)]
pub struct PageOf {
    /// The model that it counts for.
    pub model: ModelLabel,
    /// The rank that writes it; `None` for a gateway apart from the ranks.
    pub rank: Option<RankOf>,
    /// The numbers.
    pub page: Arc<MetricsPage>,
}

/// A rank that has a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankOf {
    /// Which instance of the deployment it belongs to; `None` where there is only one. If there is a
    /// number, it is a label of whatever belongs to one instance, and so is the model of each rank.
    pub instance: Option<u32>,
    /// Rank in the instance's world.
    pub rank: u32,
    /// Rank among those that share a layer.
    pub tp_rank: u32,
    /// The node's name.
    pub node: String,
}

/// All that the pages tell, in the Prometheus text format, version 0.0.4.
///
/// Counters and histograms are sums over a model's pages; but ends of requests are those of the pages
/// of no rank, if there are any: whoever routes requests sees each end once. What describes an
/// iteration is told by each instance's leader, the page of its lowest rank that published one. A
/// family that nobody feeds yet is left out.
#[must_use]
pub fn render(pages: &[PageOf]) -> String {
    render_routed(pages, &[])
}

/// As [`render`], with what those say who route requests to instances.
#[must_use]
pub fn render_routed(pages: &[PageOf], routes: &[RouteOf]) -> String {
    let mut text = Exposition::default();
    let models = by_model(pages);
    core(&mut text, &models);
    engines(&mut text, &leaders(pages));
    totals(&mut text, &models);
    times(&mut text, &models);
    ranks(&mut text, pages);
    routed(&mut text, routes);
    text.encode()
}

/// The pages of each model.
type ByModel<'a> = BTreeMap<&'a ModelLabel, Vec<&'a PageOf>>;

fn by_model(pages: &[PageOf]) -> ByModel<'_> {
    let mut models = ByModel::new();
    for of in pages {
        models.entry(&of.model).or_default().push(of);
    }
    models
}

/// The pages of each model that count the ends of its requests.
fn of_ends<'a>(models: &ByModel<'a>) -> ByModel<'a> {
    let of = |(&label, pages): (&&'a ModelLabel, &Vec<&'a PageOf>)| {
        let routers: Vec<&PageOf> = pages.iter().copied().filter(|of| of.rank.is_none()).collect();
        (label, if routers.is_empty() { pages.clone() } else { routers })
    };
    models.iter().map(of).collect()
}

/// What the server's core counts, per model.
fn core(text: &mut Exposition, models: &ByModel<'_>) {
    let ends = of_ends(models);
    let total = |pages: &[&PageOf], model, counter| -> u64 {
        pages.iter().map(|of| of.page.model(model, counter).get()).sum()
    };
    let per_model = |counter| {
        let of = |(&label, pages): (&&ModelLabel, &Vec<&PageOf>)| {
            Model::ALL
                .map(|model| Sample::new(total(pages, model, counter) as f64).model(label, model))
        };
        ends.iter().flat_map(of).collect()
    };
    text.add(&names::REQUEST_SUCCESS, per_model(ModelCounter::Succeeded));
    let reasons: [(_, &[ModelCounter]); 4] = [
        ("REJECTED", &[ModelCounter::Rejected]),
        ("CANCELED", &[ModelCounter::Cancelled]),
        ("BACKEND", &[ModelCounter::Failed]),
        ("OTHER", &[ModelCounter::Refused, ModelCounter::TimedOut]),
    ];
    let mut failures = Vec::new();
    for (label, pages) in &ends {
        for model in Model::ALL {
            for (reason, counters) in reasons {
                let count: u64 = counters.iter().map(|&counter| total(pages, model, counter)).sum();
                let sample = Sample::new(count as f64).model(label, model);
                failures.push(sample.label("reason", reason));
            }
        }
    }
    text.add(&names::REQUEST_FAILURE, failures);
    let timed_out = engine_samples(&ends, |pages| {
        total(pages, Model::TensorrtLlm, ModelCounter::TimedOut) as f64
    });
    text.add(&names::TIMED_OUT, timed_out);
    text.add(&names::INFERENCE_COUNT, per_model(ModelCounter::Succeeded));
    text.add(&names::EXEC_COUNT, per_model(ModelCounter::Succeeded));
    text.add(&names::REQUEST_DURATION, per_model(ModelCounter::DurationUs));
    let queued = engine_samples(models, |pages| {
        total(pages, Model::TensorrtLlm, ModelCounter::QueueUs) as f64
    });
    text.add(&names::QUEUE_DURATION, queued);
    let mut first_responses = Vec::new();
    for (label, pages) in models {
        for model in Model::ALL {
            let buckets = HistogramTotal::of(pages, Histogram::FirstResponseUs(model), 1000.0);
            first_responses.push(Sample::new(buckets).model(label, model));
        }
    }
    text.add(&names::FIRST_RESPONSE, first_responses);
    let slowest = models.iter().filter_map(|(label, pages)| {
        let us = pages.iter().map(|of| of.page.gauge(Gauge::LoadUs).get()).max()?;
        (us > 0).then(|| Sample::new(seconds(us)).model(label, Model::TensorrtLlm))
    });
    text.add(&names::MODEL_LOAD, slowest.collect());
}

/// A sample of each model's engine.
fn engine_samples<V: Into<crate::exposition::Value>>(
    models: &ByModel<'_>,
    value: impl Fn(&[&PageOf]) -> V,
) -> Vec<Sample> {
    let sample = |(&label, pages): (&&ModelLabel, &Vec<&PageOf>)| {
        Sample::new(value(pages)).model(label, Model::TensorrtLlm)
    };
    models.iter().map(sample).collect()
}

/// What an instance's leader says.
struct Leader<'a> {
    model: &'a ModelLabel,
    instance: Option<u32>,
    rank: u32,
    /// The latest.
    iteration: Iteration,
    /// How many there were.
    iterations: u64,
}

impl Leader<'_> {
    fn sample(&self, value: f64) -> Sample {
        Sample::new(value).model(self.model, Model::TensorrtLlm).instance(self.instance)
    }
}

/// The leaders of all instances, in order.
fn leaders(pages: &[PageOf]) -> Vec<Leader<'_>> {
    let mut leaders: Vec<Leader<'_>> = pages
        .iter()
        .filter_map(|PageOf { model, rank, page }| {
            let (instance, rank) = rank.as_ref().map(|of| (of.instance, of.rank))?;
            let iterations = page.counter(Counter::Iterations).get();
            Some(Leader { model, instance, rank, iteration: page.iteration()?, iterations })
        })
        .collect();
    leaders.sort_by_key(|leader| (leader.model, leader.instance, leader.rank));
    leaders.dedup_by_key(|leader| (leader.model, leader.instance));
    leaders
}

/// What the engines say about their latest iterations.
fn engines(text: &mut Exposition, leaders: &[Leader<'_>]) {
    let every = |value: fn(&Iteration) -> u64| {
        leaders.iter().map(|leader| leader.sample(value(&leader.iteration) as f64)).collect()
    };
    text.add(&names::PENDING_REQUESTS, every(|iteration| iteration.waiting_requests));
    text.add(
        &names::LLM_REQUESTS,
        by(leaders, "request_type", |leader| {
            let iteration = &leader.iteration;
            vec![
                ("active", iteration.active_requests as f64),
                ("max", iteration.max_requests as f64),
                ("scheduled", iteration.scheduled_requests as f64),
                ("context", iteration.context_requests as f64),
                ("waiting", iteration.waiting_requests as f64),
            ]
        }),
    );
    text.add(
        &names::LLM_KV_BLOCKS,
        by(leaders, "kv_cache_block_type", |leader| {
            let iteration = &leader.iteration;
            let fraction = match iteration.kv_blocks_max {
                0 => 0.0,
                max => iteration.kv_blocks_used as f64 / max as f64,
            };
            vec![
                ("max", iteration.kv_blocks_max as f64),
                ("free", iteration.kv_blocks_free as f64),
                ("used", iteration.kv_blocks_used as f64),
                ("tokens_per", iteration.tokens_per_kv_block as f64),
                ("reused", iteration.kv_blocks_reused as f64),
                ("fraction", fraction),
            ]
        }),
    );
    text.add(
        &names::LLM_STATIC,
        by(leaders, "v1_specific_metric", |leader| {
            let iteration = &leader.iteration;
            if !iteration.static_batching {
                return Vec::new();
            }
            vec![
                ("total_context_tokens", iteration.context_tokens as f64),
                ("total_generation_tokens", iteration.generation_tokens as f64),
                ("empty_generation_slots", iteration.empty_slots as f64),
            ]
        }),
    );
    text.add(
        &names::LLM_INFLIGHT,
        by(leaders, "inflight_batcher_specific_metric", |leader| {
            let iteration = &leader.iteration;
            if iteration.static_batching {
                return Vec::new();
            }
            vec![
                ("total_context_tokens", iteration.context_tokens as f64),
                ("generation_requests", iteration.generation_requests as f64),
                // There is one micro-batch.
                ("micro_batch_id", 0.0),
                ("paused_requests", iteration.paused_requests as f64),
            ]
        }),
    );
    text.add(
        &names::LLM_GENERAL,
        by(leaders, "general_type", |leader| {
            let timestamp = leader.iteration.timestamp_us as f64;
            vec![("timestamp", timestamp), ("iteration_counter", leader.iterations as f64)]
        }),
    );
    text.add(&names::KV_REUSED_BLOCKS, every(|iteration| iteration.kv_blocks_reused));
    text.add(&names::KV_MISSED_BLOCKS, every(|iteration| iteration.kv_blocks_missed));
}

/// Several numbers of each leader, told apart by `label`.
fn by(
    leaders: &[Leader<'_>],
    label: &'static str,
    values: impl Fn(&Leader<'_>) -> Vec<(&'static str, f64)>,
) -> Vec<Sample> {
    let samples = |leader| {
        let named = move |(name, value)| Leader::sample(leader, value).label(label, name);
        values(leader).into_iter().map(named)
    };
    leaders.iter().flat_map(samples).collect()
}

/// What the engines have counted over all requests.
fn totals(text: &mut Exposition, models: &ByModel<'_>) {
    let lengths = [
        (&names::INPUT_TOKENS, Histogram::InputTokens, "total_input_tokens"),
        (&names::OUTPUT_TOKENS, Histogram::OutputTokens, "total_output_tokens"),
    ];
    let ends = of_ends(models);
    for (family, histogram, name) in lengths {
        let samples = engine_samples(&ends, |pages| HistogramTotal::of(pages, histogram, 1.0));
        let named = samples.into_iter().map(|sample| sample.label("response_metric_type", name));
        text.add(family, named.collect());
    }
    let totals = [
        (&names::PROMPT_TOKENS, Counter::PromptTokens),
        (&names::GENERATION_TOKENS, Counter::GenerationTokens),
        (&names::KV_REUSED_TOKENS, Counter::KvReusedTokens),
        (&names::PAUSED_REQUESTS, Counter::PausedRequests),
    ];
    for (family, counter) in totals {
        let total = |pages: &[&PageOf]| {
            pages.iter().map(|of| of.page.counter(counter).get()).sum::<u64>() as f64
        };
        text.add(family, engine_samples(models, total));
    }
}

/// How long things took in the engines.
fn times(text: &mut Exposition, models: &ByModel<'_>) {
    let times = [
        (&names::QUEUE, Histogram::QueueUs),
        (&names::FIRST_TOKEN, Histogram::FirstTokenUs),
        (&names::INTER_TOKEN, Histogram::InterTokenUs),
        (&names::ITERATION, Histogram::IterationUs),
    ];
    for (family, histogram) in times {
        text.add(family, engine_samples(models, |pages| HistogramTotal::of(pages, histogram, 1e6)));
    }
}

/// What each rank says about itself.
fn ranks(text: &mut Exposition, pages: &[PageOf]) {
    let per_rank = |value: &dyn Fn(&MetricsPage) -> Option<f64>| {
        let sample = |of: &PageOf| {
            let rank = of.rank.as_ref()?;
            Some(Sample::new(value(&of.page)?).rank(&of.model, rank))
        };
        pages.iter().filter_map(sample).collect()
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
