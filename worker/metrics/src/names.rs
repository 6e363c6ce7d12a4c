//! Every metric's name, kind and help text. Those beginning `nv_` are the reference's and keep its
//! words; ours follow `shardrun_<noun>_<unit>[_total]`.

use prometheus::proto::MetricType;

/// A family of series under one name.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    pub(crate) kind: MetricType,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::COUNTER }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::GAUGE }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::HISTOGRAM }
}

/// Requests that ended well.
pub const REQUEST_SUCCESS: Family = counter(
    "nv_inference_request_success",
    "Number of successful inference requests, all batch sizes",
);
/// Requests that did not, by reason.
pub const REQUEST_FAILURE: Family =
    counter("nv_inference_request_failure", "Number of failed inference requests, all batch sizes");
/// Prompts that were answered.
pub const INFERENCE_COUNT: Family = counter(
    "nv_inference_count",
    "Number of inferences performed (does not include cached requests)",
);
/// As the reference's backend reports it: one execution a request.
pub const EXEC_COUNT: Family = counter(
    "nv_inference_exec_count",
    "Number of model executions performed (does not include cached requests)",
);
/// Time of all requests that succeeded.
pub const REQUEST_DURATION: Family = counter(
    "nv_inference_request_duration_us",
    "Cumulative inference request duration in microseconds (includes cached requests)",
);
/// Time that requests waited to start.
pub const QUEUE_DURATION: Family = counter(
    "nv_inference_queue_duration_us",
    "Cumulative inference queuing duration in microseconds (includes cached requests)",
);
/// Requests that wait to start.
pub const PENDING_REQUESTS: Family = gauge(
    "nv_inference_pending_request_count",
    "Instantaneous number of pending requests awaiting execution per-model.",
);
/// The slowest rank's time to load.
pub const MODEL_LOAD: Family = gauge("nv_model_load_duration_secs", "Model load time in seconds");
/// Time to the first response.
pub const FIRST_RESPONSE: Family = histogram(
    "nv_inference_first_response_histogram_ms",
    "Duration from request to first response in milliseconds",
);

/// Requests in the engine, by state.
pub const LLM_REQUESTS: Family = gauge("nv_trt_llm_request_metrics", "TRT LLM request metrics");
/// Blocks of the KV cache.
pub const LLM_KV_BLOCKS: Family =
    gauge("nv_trt_llm_kv_cache_block_metrics", "TRT LLM KV cache block metrics");
/// What the latest iteration held, with in-flight batching.
pub const LLM_INFLIGHT: Family =
    gauge("nv_trt_llm_inflight_batcher_metrics", "TRT LLM inflight_batcher-specific metrics");
/// The same with static batches.
pub const LLM_STATIC: Family = gauge("nv_trt_llm_v1_metrics", "TRT LLM v1-specific metrics");
/// When the latest iteration was, and its number.
pub const LLM_GENERAL: Family = gauge("nv_trt_llm_general_metrics", "General TRT LLM metrics");
/// Tokens of the prompts.
pub const INPUT_TOKENS: Family = histogram("nv_llm_input_token_len", "TRT LLM response metrics");
/// Tokens of the answers.
pub const OUTPUT_TOKENS: Family = histogram("nv_llm_output_token_len", "TRT LLM response metrics");

/// Prompt tokens computed.
pub const PROMPT_TOKENS: Family = counter("shardrun_prompt_tokens_total", "Prompt tokens computed");
/// Tokens generated.
pub const GENERATION_TOKENS: Family =
    counter("shardrun_generation_tokens_total", "Tokens generated");
/// Requests whose time was over.
pub const TIMED_OUT: Family = counter(
    "shardrun_requests_timed_out_total",
    "Requests whose time was over, while they waited or while they ran",
);
/// Requests that lost their blocks to others.
pub const PAUSED_REQUESTS: Family = counter(
    "shardrun_paused_requests_total",
    "Times that a running request lost its KV blocks to others",
);
/// Blocks found in the cache.
pub const KV_REUSED_BLOCKS: Family = counter(
    "shardrun_kv_cache_reused_blocks_total",
    "Whole blocks of prompts found in the KV cache instead of computed",
);
/// Blocks looked for in vain.
pub const KV_MISSED_BLOCKS: Family = counter(
    "shardrun_kv_cache_missed_blocks_total",
    "Whole blocks of prompts looked for in the KV cache in vain",
);
/// Tokens found in the cache.
pub const KV_REUSED_TOKENS: Family = counter(
    "shardrun_kv_cache_reused_tokens_total",
    "Prompt tokens found in the KV cache instead of computed",
);
/// From submission to the first iteration.
pub const QUEUE: Family = histogram(
    "shardrun_queue_seconds",
    "Time from a request's submission to its first iteration, in seconds",
);
/// From submission to the first token.
pub const FIRST_TOKEN: Family = histogram(
    "shardrun_time_to_first_token_seconds",
    "Time from a request's submission to its first token, in seconds",
);
/// From one token to the next.
pub const INTER_TOKEN: Family = histogram(
    "shardrun_inter_token_seconds",
    "Time from one token of a sequence to its next, in seconds",
);
/// Of one iteration.
pub const ITERATION: Family =
    histogram("shardrun_iteration_seconds", "Time of an iteration, in seconds");
/// A rank's time to load.
pub const RANK_LOAD: Family =
    gauge("shardrun_rank_load_seconds", "Time this rank took to load its shard, in seconds");
/// A rank's weights.
pub const RANK_WEIGHTS: Family =
    gauge("shardrun_rank_weight_bytes", "Weights that this rank holds, in bytes");
/// A rank's KV cache.
pub const RANK_KV_CACHE: Family =
    gauge("shardrun_rank_kv_cache_bytes", "KV cache that this rank holds, in bytes");
/// A rank's iterations.
pub const RANK_ITERATIONS: Family =
    counter("shardrun_rank_iterations_total", "Iterations that this rank executed");
/// A rank's time in forward passes.
pub const RANK_BUSY: Family = counter(
    "shardrun_rank_busy_seconds_total",
    "Time this rank spent in forward passes, in seconds",
);

/// Requests that went on elsewhere.
pub const RESUBMITTED: Family = counter(
    "shardrun_requests_resubmitted_total",
    "Times that a request went on in another instance, or in one that was started again",
);
/// Instances that died.
pub const INSTANCE_DEATHS: Family = counter(
    "shardrun_instance_deaths_total",
    "Instances that died, those that were stopped left out",
);
/// Requests without an instance.
pub const WAITING_FOR_INSTANCE: Family = gauge(
    "shardrun_requests_waiting_for_instance",
    "Requests that wait until an instance takes them, those that lost theirs included",
);
/// Instances that serve.
pub const INSTANCES_READY: Family =
    gauge("shardrun_instances_ready", "Instances that take requests");
