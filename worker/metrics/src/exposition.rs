//! Series and families, put together for the `prometheus` crate's encoder.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily,
    MetricType,
};

use crate::names::Family;
use crate::{Histogram, Model, ModelLabel, PageOf, RankOf};

/// The one version that every model has.
const MODEL_VERSION: &str = "1";

/// One histogram over all pages, in the unit that is shown.
#[derive(Clone)]
pub(crate) struct HistogramTotal {
    /// Upper ends and how many were at most that.
    cumulative: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

impl HistogramTotal {
    pub(crate) fn of(pages: &[&PageOf], histogram: Histogram, divisor: f64) -> Self {
        let bounds = histogram.bounds();
        let mut counts = vec![0; bounds.len() + 1];
        let mut sum = 0;
        for of in pages {
            let cell = of.page.histogram(histogram);
            for (total, count) in counts.iter_mut().zip(cell.buckets()) {
                *total += count;
            }
            sum += cell.sum();
        }
        let mut count = 0;
        let cumulative = bounds
            .iter()
            .zip(&counts)
            .map(|(&bound, &in_bucket)| {
                count += in_bucket;
                (bound as f64 / divisor, count)
            })
            .collect();
        count += counts[bounds.len()];
        Self { cumulative, count, sum: sum as f64 / divisor }
    }
}

/// What one series shows.
#[derive(Clone)]
pub(crate) enum Value {
    Number(f64),
    Histogram(HistogramTotal),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<HistogramTotal> for Value {
    fn from(total: HistogramTotal) -> Self {
        Self::Histogram(total)
    }
}

/// One series.
#[derive(Clone)]
pub(crate) struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

impl Sample {
    pub(crate) fn new(value: impl Into<Value>) -> Self {
        Self { labels: Vec::new(), value: value.into() }
    }

    pub(crate) fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }

    pub(crate) fn model(self, label: &ModelLabel, model: Model) -> Self {
        self.label("model", label.name(model)).label("version", MODEL_VERSION)
    }

    /// Which of a model's instances, if that has to be told.
    pub(crate) fn instance(self, instance: Option<u32>) -> Self {
        match instance {
            Some(instance) => self.label("instance", instance.to_string()),
            None => self,
        }
    }

    /// A rank, and what it serves if that has to be told.
    pub(crate) fn rank(self, label: &ModelLabel, rank: &RankOf) -> Self {
        let sample = self
            .label("rank", rank.rank.to_string())
            .label("tp_rank", rank.tp_rank.to_string())
            .label("node", rank.node.as_str())
            .instance(rank.instance);
        match rank.instance {
            Some(_) => sample.label("model", label.name(Model::TensorrtLlm)),
            None => sample,
        }
    }

    fn into_metric(mut self, kind: MetricType) -> Metric {
        // Alphabetical, as the reference prints them.
        self.labels.sort_by_key(|&(name, _)| name);
        let pairs = self.labels.into_iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        match self.value {
            Value::Number(number) if kind == MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(number);
                metric.set_counter(counter);
            }
            Value::Number(number) => {
                let mut gauge = Gauge::default();
                gauge.set_value(number);
                metric.set_gauge(gauge);
            }
            Value::Histogram(total) => {
                let buckets = total.cumulative.into_iter().map(|(bound, count)| {
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(bound);
                    bucket.set_cumulative_count(count);
                    bucket
                });
                let mut histogram = HistogramProto::default();
                histogram.set_bucket(buckets.collect());
                histogram.set_sample_count(total.count);
                histogram.set_sample_sum(total.sum);
                metric.set_histogram(histogram);
            }
        }
        metric
    }
}

/// The families of one scrape.
#[derive(Default)]
pub(crate) struct Exposition(Vec<MetricFamily>);

impl Exposition {
    /// Adds a family, unless it has no series.
    pub(crate) fn add(&mut self, family: &Family, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let mut proto = MetricFamily::default();
        proto.set_name(family.name.to_owned());
        proto.set_help(family.help.to_owned());
        proto.set_field_type(family.kind);
        proto.set_metric(
            samples.into_iter().map(|sample| sample.into_metric(family.kind)).collect(),
        );
        self.0.push(proto);
    }

    pub(crate) fn encode(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.0)
            .expect("writing to a string fails only on a family without name or series")
    }
}
