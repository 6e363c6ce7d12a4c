//! What the scheduler costs an iteration, without a device: `cargo bench -p shardrun-engine --bench
//! scheduler`. Prints the median and the worst of many iterations in microseconds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use shardrun_engine::{
    CapacityPolicy, ChunkingPolicy, Draw, Drawn, Event, KvCacheConfig, PrefillBudget, Sampled,
    Scheduler, SchedulerConfig,
};
use shardrun_wire::{Request, RequestId};

const ACTIVE: usize = 256;
const ITERATIONS: usize = 2000;
/// What the scheduler is told of the device that isn't there.
const A_TOKENS_TIME: Duration = Duration::from_micros(100);

fn config(capacity: CapacityPolicy, reuse: bool) -> SchedulerConfig {
    SchedulerConfig {
        max_batch_size: ACTIVE,
        max_num_tokens: 4096,
        capacity,
        chunking: ChunkingPolicy::FirstComeFirstServed,
        prefill: PrefillBudget::Auto,
        queue_timeout: None,
        attention_window: None,
        kv_cache: KvCacheConfig {
            blocks: 64 * 1024,
            tokens_per_block: 32,
            reuse,
            partial_reuse: reuse,
            event_buffer: 0,
        },
    }
}

/// A prompt of 512 tokens, of which all have the first half in common.
fn request(id: u64, max_tokens: u32) -> Request {
    let shared = 0..256;
    let own = (0..256).map(|at| (at * 31 + id as u32 * 7919) % 49152);
    Request::new(RequestId(id), shared.chain(own).collect(), max_tokens)
}

/// One iteration; gives how long planning and taking in took.
fn iterate(scheduler: &mut Scheduler, drawn: &mut Drawn, events: &mut Vec<Event>) -> Duration {
    let began = Instant::now();
    scheduler.expire(Duration::ZERO, events);
    black_box(scheduler.schedule(Duration::ZERO, events));
    let planned = began.elapsed();
    drawn.clear();
    for draw in scheduler.draws() {
        if let Draw::Sample { .. } = draw {
            drawn.samples.push(Some(Sampled { token: 17, log_prob: 0.0 }));
        }
    }
    let began = Instant::now();
    scheduler.complete(drawn, events);
    scheduler.took(A_TOKENS_TIME * scheduler.plan().tokens.len() as u32);
    events.clear();
    planned + began.elapsed()
}

fn measure(name: &str, config: SchedulerConfig, waiting: u64) {
    let mut scheduler = Scheduler::new(config);
    let (mut drawn, mut events) = (Drawn::default(), Vec::new());
    let most = ITERATIONS as u32 + 1000;
    for id in 0..ACTIVE as u64 + waiting {
        scheduler.add(request(id, most), Duration::ZERO);
    }
    while scheduler.stats().running < ACTIVE || scheduler.stats().context_requests > 0 {
        iterate(&mut scheduler, &mut drawn, &mut events);
    }
    let mut times: Vec<Duration> =
        (0..ITERATIONS).map(|_| iterate(&mut scheduler, &mut drawn, &mut events)).collect();
    assert_eq!(scheduler.stats().generation_requests, ACTIVE);
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:58} median {:6.1} us, p99 {:6.1} us, worst {:7.1} us",
        us(times[ITERATIONS / 2]),
        us(times[ITERATIONS * 99 / 100]),
        us(times[ITERATIONS - 1]),
    );
}

fn main() {
    println!("one iteration of {ACTIVE} sequences that generate, planned and taken in:");
    let no_evict = CapacityPolicy::GuaranteedNoEvict;
    measure("guaranteed_no_evict, with reuse", config(no_evict, true), 0);
    measure("guaranteed_no_evict, without reuse", config(no_evict, false), 0);
    measure("guaranteed_no_evict, with reuse, 500 requests waiting", config(no_evict, true), 500);
    measure("max_utilization, with reuse", config(CapacityPolicy::MaxUtilization, true), 0);
}
