//! What is kept of each iteration for whoever asks later.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shardrun_wire::{InflightBatchingStats, IterationStats, KvCacheStats, StaticBatchingStats};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::scheduler::{CapacityPolicy, SchedulerConfig, SchedulerStats};

/// One iteration, as the step thread writes it down.
#[derive(Clone, Debug)]
pub(crate) struct IterationRecord {
    pub(crate) step: u64,
    pub(crate) ended: SystemTime,
    pub(crate) took: Duration,
    /// How long the requests that it started had waited, all together.
    pub(crate) queued_for: Duration,
    pub(crate) started: usize,
    pub(crate) completed: usize,
    pub(crate) config: SchedulerConfig,
    /// Of the plan, and of what was in the engine after it.
    pub(crate) scheduler: SchedulerStats,
    /// Bytes of weights and KV cache.
    pub(crate) memory_bytes: u64,
}

impl IterationRecord {
    /// The record under the names that readers know; without the requests' own.
    pub(crate) fn stats(self) -> IterationStats {
        let SchedulerConfig { max_batch_size, max_num_tokens, capacity, kv_cache, .. } =
            self.config;
        let (batch, tokens) = (max_batch_size as u64, max_num_tokens as u64);
        let now = self.scheduler;
        let is_static = capacity == CapacityPolicy::StaticBatch;
        let scheduled = (now.context_requests + now.generation_requests) as u64;
        IterationStats {
            timestamp: timestamp(self.ended),
            iter: self.step,
            iter_latency_ms: milliseconds(self.took),
            new_active_requests_queue_latency_ms: milliseconds(self.queued_for),
            num_new_active_requests: self.started as u64,
            num_active_requests: now.running as u64,
            num_queued_requests: now.waiting as u64,
            num_completed_requests: self.completed as u64,
            max_num_active_requests: batch,
            max_batch_size_static: batch,
            max_batch_size_tuner_recommended: batch,
            max_batch_size_runtime: batch,
            max_num_tokens_static: tokens,
            max_num_tokens_tuner_recommended: tokens,
            max_num_tokens_runtime: tokens,
            gpu_mem_usage: 0,
            cpu_mem_usage: self.memory_bytes,
            pinned_mem_usage: 0,
            kv_cache_stats: Some(KvCacheStats {
                max_num_blocks: now.kv_blocks as u64,
                free_num_blocks: now.free_blocks as u64,
                used_num_blocks: now.used_blocks as u64,
                tokens_per_block: kv_cache.tokens_per_block as u64,
                alloc_total_blocks: now.counts.alloc_total,
                alloc_new_blocks: now.counts.alloc_new,
                reused_blocks: now.counts.reused,
                missed_blocks: now.counts.missed,
                cache_hit_rate: now.counts.hit_rate(),
            }),
            static_batching_stats: is_static.then(|| StaticBatchingStats {
                num_scheduled_requests: scheduled,
                num_context_requests: now.context_requests as u64,
                num_ctx_tokens: now.context_tokens as u64,
                num_gen_tokens: now.generation_tokens as u64,
                empty_gen_slots: batch - now.sequences as u64,
            }),
            inflight_batching_stats: (!is_static).then(|| InflightBatchingStats {
                num_scheduled_requests: scheduled,
                num_context_requests: now.context_requests as u64,
                num_gen_requests: now.generation_requests as u64,
                num_paused_requests: now.paused as u64,
                num_ctx_tokens: now.context_tokens as u64,
                micro_batch_id: 0,
                avg_num_decoded_tokens_per_iter: match now.generation_requests {
                    0 => 0.0,
                    requests => now.generation_tokens as f64 / requests as f64,
                },
            }),
            spec_decoding_stats: None,
            request_stats: None,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn timestamp(time: SystemTime) -> String {
    let format =
        format_description!("[month]-[day]-[year] [hour]:[minute]:[second].[subsecond digits:6]");
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp_nanos(since.as_nanos() as i128)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_as_the_reference_does() {
        let time = UNIX_EPOCH + Duration::from_micros(1_763_820_930_000_042);
        assert_eq!(timestamp(time), "11-22-2025 14:15:30.000042");
    }
}
