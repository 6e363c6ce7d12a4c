//! What an engine says about each iteration: made in the step thread, read anywhere else. Names in JSON
//! are those of TensorRT-LLM's iteration statistics.

use serde::{Deserialize, Serialize};

use crate::RequestId;

/// One iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IterationStats {
    /// When it ended: UTC, `MM-DD-YYYY HH:MM:SS.ffffff`.
    pub timestamp: String,
    /// Its number, from 1.
    pub iter: u64,
    /// How long it took, in milliseconds.
    #[serde(rename = "iterLatencyMS")]
    pub iter_latency_ms: f64,
    /// How long the requests that it started had waited, all together, in milliseconds.
    #[serde(rename = "newActiveRequestsQueueLatencyMS")]
    pub new_active_requests_queue_latency_ms: f64,
    /// Requests that it started.
    pub num_new_active_requests: u64,
    /// Requests that have started and not ended.
    pub num_active_requests: u64,
    /// Requests that wait to start.
    pub num_queued_requests: u64,
    /// Requests that it ended.
    pub num_completed_requests: u64,
    /// Requests that may run at once.
    pub max_num_active_requests: u64,
    /// Sequences that an iteration may have.
    pub max_batch_size_static: u64,
    /// As before: nothing is tuned at run time.
    pub max_batch_size_tuner_recommended: u64,
    /// As before.
    pub max_batch_size_runtime: u64,
    /// Tokens that an iteration may have.
    pub max_num_tokens_static: u64,
    /// As before.
    pub max_num_tokens_tuner_recommended: u64,
    /// As before.
    pub max_num_tokens_runtime: u64,
    /// Bytes on a GPU.
    pub gpu_mem_usage: u64,
    /// Bytes of weights and KV cache in the leader's memory.
    pub cpu_mem_usage: u64,
    /// Bytes of pinned memory.
    pub pinned_mem_usage: u64,
    /// The cache after the iteration.
    pub kv_cache_stats: Option<KvCacheStats>,
    /// With the policy `static_batch`.
    pub static_batching_stats: Option<StaticBatchingStats>,
    /// With the other policies.
    pub inflight_batching_stats: Option<InflightBatchingStats>,
    /// Speculative decoding: there is none.
    pub spec_decoding_stats: Option<()>,
    /// Every request in the engine, if the deployment asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_stats: Option<Vec<RequestStats>>,
}

/// The cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KvCacheStats {
    /// Blocks.
    pub max_num_blocks: u64,
    /// Of those, blocks that no request holds.
    pub free_num_blocks: u64,
    /// Of those, blocks that requests hold.
    pub used_num_blocks: u64,
    /// Tokens of a block.
    pub tokens_per_block: u64,
    /// Blocks taken into use since the start, reused ones included.
    pub alloc_total_blocks: u64,
    /// Of those, new ones.
    pub alloc_new_blocks: u64,
    /// Of those, reused ones.
    pub reused_blocks: u64,
    /// Whole blocks of prompts that the cache did not have.
    pub missed_blocks: u64,
    /// Reused blocks over looked-for blocks.
    pub cache_hit_rate: f64,
}

/// An iteration of a static batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticBatchingStats {
    /// Requests in the iteration.
    pub num_scheduled_requests: u64,
    /// Of those, requests whose prompt is computed.
    pub num_context_requests: u64,
    /// Prompt tokens.
    pub num_ctx_tokens: u64,
    /// Generated tokens.
    pub num_gen_tokens: u64,
    /// Places of the batch that nobody uses.
    pub empty_gen_slots: u64,
}

/// An iteration of in-flight batching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InflightBatchingStats {
    /// Requests in the iteration.
    pub num_scheduled_requests: u64,
    /// Of those, requests whose prompt is computed.
    pub num_context_requests: u64,
    /// Of those, requests that generate.
    pub num_gen_requests: u64,
    /// Requests that lost their blocks to others.
    pub num_paused_requests: u64,
    /// Prompt tokens.
    pub num_ctx_tokens: u64,
    /// Which micro-batch: there is one.
    pub micro_batch_id: u64,
    /// Tokens that a request got per iteration.
    pub avg_num_decoded_tokens_per_iter: f64,
}

/// One request in one iteration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestStats {
    /// Which one.
    pub id: RequestId,
    /// What it does.
    pub stage: RequestStage,
    /// Prompt tokens that are in the cache.
    pub context_prefill_position: u64,
    /// Tokens generated, of all its sequences.
    pub num_generated_tokens: u64,
    /// Tokens that it got per iteration.
    pub avg_num_decoded_tokens_per_iter: f64,
    /// Whether the iteration had it in.
    pub scheduled: bool,
    /// Whether it lost its blocks to others.
    pub paused: bool,
    /// Disaggregated serving: there is none.
    pub dis_serving_stats: Option<()>,
    /// Blocks taken into use, reused ones included.
    pub alloc_total_blocks_per_request: u64,
    /// Of those, new ones.
    pub alloc_new_blocks_per_request: u64,
    /// Of those, reused ones.
    pub reused_blocks_per_request: u64,
    /// Whole blocks of its prompt that the cache did not have.
    pub missed_blocks_per_request: u64,
    /// Reused blocks over looked-for blocks.
    pub kv_cache_hit_rate_per_request: f64,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestStage {
    /// Waits.
    Queued,
    /// Its prompt is computed.
    ContextInProgress,
    /// It generates.
    GenerationInProgress,
    /// It has ended.
    GenerationComplete,
}
