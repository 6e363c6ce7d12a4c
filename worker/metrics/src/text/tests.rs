use std::collections::{BTreeMap, HashSet};

use super::*;

fn unique(what: &str) -> String {
    format!("shardrun_test_{}_{what}_", std::process::id())
}

fn pages(what: &str, ranks: u32) -> Vec<PageOf> {
    (0..ranks)
        .map(|rank| PageOf {
            model: ModelLabel::plain(),
            rank: Some(RankOf {
                instance: None,
                rank,
                tp_rank: rank,
                node: "node\"a\\1".to_owned(),
            }),
            page: Arc::new(MetricsPage::create(&unique(what), rank as usize).unwrap()),
        })
        .collect()
}

/// A strict reader of the text format: help, type, then the family's samples, each series once;
/// buckets rise and end in the count. Gives the value of every series by its text.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut families = HashSet::new();
    let mut family = (String::new(), String::new());
    let mut helped = None;
    let mut rising: Option<(String, f64)> = None;
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && families.insert(name.to_owned()), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped.take().as_deref(), Some(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            family = (name.to_owned(), kind.to_owned());
        } else {
            let (id, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = id.strip_suffix('}').unwrap().split_once('{').unwrap();
            let labels = read_labels(labels);
            let part = name.strip_prefix(family.0.as_str()).unwrap_or_else(|| panic!("{line}"));
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let others: Vec<_> = labels.iter().filter(|(name, _)| name != "le").collect();
            let key = format!("{others:?}");
            match (family.1.as_str(), part) {
                ("counter" | "gauge", "") => {}
                ("histogram", "_bucket") => {
                    if let Some((of, below)) = &rising {
                        assert!(*of != key || *below <= value, "{line}");
                    }
                    rising = Some((key, value));
                }
                ("histogram", "_sum") => {}
                ("histogram", "_count") => assert_eq!(rising.take(), Some((key, value)), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(series.insert(id.to_owned(), value), None, "twice: {line}");
        }
    }
    series
}

fn read_labels(mut text: &str) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('"' | '\\') => value.push(c),
                    c => panic!("escape of {c}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.iter().all(|(other, _)| other != name));
        labels.push((name.to_owned(), value));
        text = &rest[end + 1..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
    labels
}

#[test]
fn the_references_sample_line_comes_out_as_it_stands() {
    let pages = pages("sample", 1);
    pages[0].page.publish(&Iteration { context_requests: 1, ..Iteration::default() });
    let text = render(&pages);
    let line =
        r#"nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1"#;
    assert!(text.lines().any(|it| it == line), "{text}");
}

#[test]
fn every_number_is_where_the_reference_has_it() {
    let pages = pages("all", 2);
    let leader = &pages[0].page;
    leader.publish(&Iteration {
        timestamp_us: 1_760_000_000_123_456,
        active_requests: 5,
        max_requests: 16,
        scheduled_requests: 3,
        context_requests: 1,
        generation_requests: 2,
        waiting_requests: 2,
        paused_requests: 4,
        context_tokens: 77,
        generation_tokens: 12,
        empty_slots: 3,
        kv_blocks_max: 40,
        kv_blocks_free: 30,
        kv_blocks_used: 10,
        kv_blocks_reused: 6,
        kv_blocks_missed: 13,
        tokens_per_kv_block: 64,
        static_batching: false,
    });
    leader.model(Model::Ensemble, ModelCounter::Succeeded).add(9);
    leader.model(Model::TensorrtLlm, ModelCounter::QueueUs).add(1234);
    leader.model(Model::TensorrtLlmBls, ModelCounter::Cancelled).add(2);
    leader.histogram(Histogram::FirstResponseUs(Model::Ensemble)).observe(100_000);
    leader.histogram(Histogram::FirstResponseUs(Model::Ensemble)).observe(700_500);
    leader.histogram(Histogram::InputTokens).observe(11);
    leader.counter(Counter::PromptTokens).add(11);
    leader.counter(Counter::KvReusedTokens).add(390);
    leader.counter(Counter::PausedRequests).add(5);
    leader.counter(Counter::Iterations).add(8);
    leader.model(Model::TensorrtLlm, ModelCounter::TimedOut).add(3);
    leader.model(Model::TensorrtLlm, ModelCounter::Refused).add(4);
    leader.histogram(Histogram::QueueUs).observe(60_000_001);
    leader.histogram(Histogram::FirstTokenUs).observe(250_000);
    leader.histogram(Histogram::InterTokenUs).observe(3_000);
    leader.histogram(Histogram::IterationUs).observe(500);
    leader.gauge(Gauge::LoadUs).set(1_500_000);
    pages[1].page.gauge(Gauge::LoadUs).set(2_500_000);
    pages[1].page.counter(Counter::BusyUs).add(250_000);

    let text = render(&pages);
    let series = read(&text);
    let expect = [
        (r#"nv_inference_request_success{model="ensemble",version="1"}"#, 9.0),
        (r#"nv_inference_count{model="ensemble",version="1"}"#, 9.0),
        (r#"nv_inference_exec_count{model="ensemble",version="1"}"#, 9.0),
        (
            r#"nv_inference_request_failure{model="tensorrt_llm_bls",reason="CANCELED",version="1"}"#,
            2.0,
        ),
        (r#"nv_inference_request_failure{model="tensorrt_llm",reason="OTHER",version="1"}"#, 7.0),
        (r#"shardrun_requests_timed_out_total{model="tensorrt_llm",version="1"}"#, 3.0),
        (r#"nv_inference_queue_duration_us{model="tensorrt_llm",version="1"}"#, 1234.0),
        (r#"nv_inference_pending_request_count{model="tensorrt_llm",version="1"}"#, 2.0),
        (r#"nv_model_load_duration_secs{model="tensorrt_llm",version="1"}"#, 2.5),
        (
            r#"nv_inference_first_response_histogram_ms_bucket{model="ensemble",version="1",le="100"}"#,
            1.0,
        ),
        (
            r#"nv_inference_first_response_histogram_ms_bucket{model="ensemble",version="1",le="+Inf"}"#,
            2.0,
        ),
        (r#"nv_inference_first_response_histogram_ms_sum{model="ensemble",version="1"}"#, 800.5),
        (
            r#"nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"}"#,
            0.25,
        ),
        (
            r#"nv_trt_llm_inflight_batcher_metrics{inflight_batcher_specific_metric="total_context_tokens",model="tensorrt_llm",version="1"}"#,
            77.0,
        ),
        (
            r#"nv_trt_llm_inflight_batcher_metrics{inflight_batcher_specific_metric="micro_batch_id",model="tensorrt_llm",version="1"}"#,
            0.0,
        ),
        (
            r#"nv_trt_llm_inflight_batcher_metrics{inflight_batcher_specific_metric="paused_requests",model="tensorrt_llm",version="1"}"#,
            4.0,
        ),
        (
            r#"nv_trt_llm_general_metrics{general_type="timestamp",model="tensorrt_llm",version="1"}"#,
            1_760_000_000_123_456.0,
        ),
        (
            r#"nv_trt_llm_general_metrics{general_type="iteration_counter",model="tensorrt_llm",version="1"}"#,
            8.0,
        ),
        (
            r#"nv_llm_input_token_len_bucket{model="tensorrt_llm",response_metric_type="total_input_tokens",version="1",le="50"}"#,
            1.0,
        ),
        (r#"shardrun_prompt_tokens_total{model="tensorrt_llm",version="1"}"#, 11.0),
        (r#"shardrun_kv_cache_reused_blocks_total{model="tensorrt_llm",version="1"}"#, 6.0),
        (r#"shardrun_kv_cache_missed_blocks_total{model="tensorrt_llm",version="1"}"#, 13.0),
        (r#"shardrun_kv_cache_reused_tokens_total{model="tensorrt_llm",version="1"}"#, 390.0),
        (r#"shardrun_paused_requests_total{model="tensorrt_llm",version="1"}"#, 5.0),
        (r#"shardrun_queue_seconds_bucket{model="tensorrt_llm",version="1",le="60"}"#, 0.0),
        (r#"shardrun_queue_seconds_sum{model="tensorrt_llm",version="1"}"#, 60.000001),
        (
            r#"shardrun_time_to_first_token_seconds_bucket{model="tensorrt_llm",version="1",le="0.2"}"#,
            0.0,
        ),
        (
            r#"shardrun_time_to_first_token_seconds_bucket{model="tensorrt_llm",version="1",le="0.5"}"#,
            1.0,
        ),
        (
            r#"shardrun_inter_token_seconds_bucket{model="tensorrt_llm",version="1",le="0.003"}"#,
            1.0,
        ),
        (r#"shardrun_iteration_seconds_bucket{model="tensorrt_llm",version="1",le="0.001"}"#, 1.0),
        (r#"shardrun_rank_load_seconds{node="node\"a\\1",rank="0",tp_rank="0"}"#, 1.5),
        (r#"shardrun_rank_iterations_total{node="node\"a\\1",rank="0",tp_rank="0"}"#, 8.0),
        (r#"shardrun_rank_busy_seconds_total{node="node\"a\\1",rank="1",tp_rank="1"}"#, 0.25),
    ];
    for (name, value) in expect {
        assert_eq!(series.get(name), Some(&value), "{name} in\n{text}");
    }
    assert!(!text.contains("nv_trt_llm_v1_metrics"));
}

#[test]
fn static_batches_have_a_family_of_their_own() {
    let pages = pages("static", 1);
    pages[0].page.publish(&Iteration {
        context_tokens: 7,
        generation_tokens: 12,
        empty_slots: 3,
        static_batching: true,
        ..Iteration::default()
    });
    let text = render(&pages);
    let series = read(&text);
    for (name, value) in [
        ("total_context_tokens", 7.0),
        ("total_generation_tokens", 12.0),
        ("empty_generation_slots", 3.0),
    ] {
        let id = format!(
            r#"nv_trt_llm_v1_metrics{{model="tensorrt_llm",v1_specific_metric="{name}",version="1"}}"#
        );
        assert_eq!(series[&id], value);
    }
    assert!(!text.contains("nv_trt_llm_inflight_batcher_metrics"));
}

#[test]
fn what_nobody_feeds_yet_is_left_out() {
    assert_eq!(render(&[]), "");
    let pages = pages("fresh", 1);
    let text = render(&pages);
    read(&text);
    for absent in [
        "nv_trt_llm_request_metrics",
        "nv_inference_pending_request_count",
        "nv_model_load_duration_secs",
        "shardrun_rank_load_seconds",
        "shardrun_rank_weight_bytes",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(text.contains("nv_inference_request_success"));
}

#[test]
fn counts_of_several_processes_are_added() {
    let pages = pages("sum", 3);
    for of in &pages {
        of.page.model(Model::Ensemble, ModelCounter::Rejected).add(2);
        of.page.histogram(Histogram::OutputTokens).observe(5);
    }
    let series = read(&render(&pages));
    let rejected =
        r#"nv_inference_request_failure{model="ensemble",reason="REJECTED",version="1"}"#;
    assert_eq!(series[rejected], 6.0);
    let lengths = r#"nv_llm_output_token_len_count{model="tensorrt_llm",response_metric_type="total_output_tokens",version="1"}"#;
    assert_eq!(series[lengths], 3.0);
}

#[test]
fn models_and_instances_are_told_apart() {
    let labels = [ModelLabel::plain(), ModelLabel::suffixed("2")];
    let mut all = Vec::new();
    // Two instances of the first model, one of the second, and a gateway's page for each.
    for (instance, label) in [(0, 0), (1, 0), (2, 1)] {
        for mut of in pages(&format!("instance{instance}"), 2) {
            of.model = labels[label].clone();
            of.rank.as_mut().unwrap().instance = Some(instance);
            of.page.counter(Counter::PromptTokens).add(10);
            of.page.counter(Counter::Iterations).add(u64::from(instance) + 1);
            if of.rank.as_ref().unwrap().rank == 0 {
                let waiting_requests = 5 + u64::from(instance);
                of.page.publish(&Iteration { waiting_requests, ..Iteration::default() });
            }
            all.push(of);
        }
    }
    for (label, requests) in labels.iter().zip([7, 8]) {
        let page = pages(&format!("gateway{requests}"), 1).remove(0).page;
        page.model(Model::Ensemble, ModelCounter::Succeeded).add(requests);
        all.push(PageOf { model: label.clone(), rank: None, page });
    }
    let routes = labels.clone().map(|model| RouteOf {
        model,
        resubmitted: 3,
        instance_deaths: 1,
        waiting: 2,
        instances_ready: 1,
    });
    let text = render_routed(&all, &routes);
    let series = read(&text);
    let node = r#"node="node\"a\\1""#;
    for (name, value) in [
        (r#"nv_inference_request_success{model="ensemble",version="1"}"#.to_owned(), 7.0),
        (r#"nv_inference_request_success{model="ensemble_2",version="1"}"#.to_owned(), 8.0),
        (r#"shardrun_prompt_tokens_total{model="tensorrt_llm",version="1"}"#.to_owned(), 40.0),
        (r#"shardrun_prompt_tokens_total{model="tensorrt_llm_2",version="1"}"#.to_owned(), 20.0),
        (
            r#"nv_inference_pending_request_count{instance="1",model="tensorrt_llm",version="1"}"#
                .to_owned(),
            6.0,
        ),
        (
            r#"nv_inference_pending_request_count{instance="2",model="tensorrt_llm_2",version="1"}"#
                .to_owned(),
            7.0,
        ),
        (
            format!(
                r#"shardrun_rank_iterations_total{{instance="1",model="tensorrt_llm",{node},rank="1",tp_rank="1"}}"#
            ),
            2.0,
        ),
        (r#"shardrun_requests_resubmitted_total{model="tensorrt_llm_2",version="1"}"#.to_owned(), 3.0),
        (r#"shardrun_instance_deaths_total{model="tensorrt_llm",version="1"}"#.to_owned(), 1.0),
        (
            r#"shardrun_requests_waiting_for_instance{model="tensorrt_llm",version="1"}"#.to_owned(),
            2.0,
        ),
        (r#"shardrun_instances_ready{model="tensorrt_llm",version="1"}"#.to_owned(), 1.0),
    ] {
        assert_eq!(series.get(&name), Some(&value), "{name} in\n{text}");
    }
    let ranks = series.keys().filter(|name| name.starts_with("shardrun_rank_iterations"));
    assert_eq!(ranks.count(), 6, "gateways are no ranks");
}

#[test]
fn ends_of_requests_are_those_that_the_router_tells() {
    // A rank of an instance that fell, and one where its request went on.
    let mut all = pages("routed", 2);
    for of in &mut all {
        of.rank.as_mut().unwrap().instance = Some(0);
        of.page.model(Model::TensorrtLlm, ModelCounter::QueueUs).add(50);
        of.page.histogram(Histogram::OutputTokens).observe(9);
        of.page.counter(Counter::GenerationTokens).add(9);
    }
    all[0].page.model(Model::TensorrtLlm, ModelCounter::Failed).add(1);
    all[1].page.model(Model::TensorrtLlm, ModelCounter::Succeeded).add(1);
    let router = pages("router", 1).remove(0).page;
    router.model(Model::TensorrtLlm, ModelCounter::Succeeded).add(1);
    router.histogram(Histogram::OutputTokens).observe(18);
    all.push(PageOf { model: ModelLabel::plain(), rank: None, page: router });
    let series = read(&render(&all));
    let llm = |name: &str| series[&format!(r#"{name}{{model="tensorrt_llm",version="1"}}"#)];
    assert_eq!(llm("nv_inference_request_success"), 1.0);
    assert_eq!(llm("nv_inference_count"), 1.0);
    let failed =
        r#"nv_inference_request_failure{model="tensorrt_llm",reason="BACKEND",version="1"}"#;
    assert_eq!(series[failed], 0.0);
    let lengths =
        r#"{model="tensorrt_llm",response_metric_type="total_output_tokens",version="1"}"#;
    assert_eq!(series[&format!("nv_llm_output_token_len_count{lengths}")], 1.0);
    assert_eq!(series[&format!("nv_llm_output_token_len_sum{lengths}")], 18.0);
    assert_eq!(llm("nv_inference_queue_duration_us"), 100.0);
    assert_eq!(llm("shardrun_generation_tokens_total"), 18.0);
    let timed_out =
        series.keys().filter(|key| key.starts_with("shardrun_requests_timed_out_total"));
    assert_eq!(timed_out.count(), 1, "of the engine alone");
}

#[test]
fn two_routes_of_one_model_are_one_series() {
    let route = |resubmitted, instances_ready| RouteOf {
        model: ModelLabel::plain(),
        resubmitted,
        instance_deaths: 1,
        waiting: 2,
        instances_ready,
    };
    let series = read(&render_routed(&[], &[route(3, 1), route(4, 0)]));
    for (name, value) in [
        ("shardrun_requests_resubmitted_total", 7.0),
        ("shardrun_instance_deaths_total", 2.0),
        ("shardrun_requests_waiting_for_instance", 4.0),
        ("shardrun_instances_ready", 1.0),
    ] {
        assert_eq!(series[&format!(r#"{name}{{model="tensorrt_llm",version="1"}}"#)], value);
    }
}
