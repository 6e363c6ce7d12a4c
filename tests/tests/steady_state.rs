//! Once its requests generate, the leader's step thread allocates nothing: counted by the allocator over
//! a thousand iterations of the real model.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use shardrun_comm::{NoMail, Solo};
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Kernels};
use shardrun_engine::{
    CapacityPolicy, ChunkingPolicy, Executor, ExecutorLimits, GuideVocabulary, KvCacheConfig,
    Leader, LeaderParts, PrefillBudget, Records, SchedulerConfig, local_engine,
};
use shardrun_files::Gguf;
use shardrun_metrics::MetricsPage;
use shardrun_model::{Backend as _, CacheShape, CacheType, Decoder, ModelConfig, Shard};
use shardrun_tests::{model, until};
use shardrun_wire::{EngineClient as _, EngineLimits, Request, RequestId, Sampling, Search};

/// Iterations that are watched.
const ITERATIONS: u64 = 1000;
const MAX_TOKENS: u32 = 1200;
const BLOCKS: usize = 400;
const TOKENS_PER_BLOCK: usize = 32;

/// The system's allocator, which counts for the threads that ask for it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that ends has no such value any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One rank of the real model.
fn executor(model: &Path) -> anyhow::Result<(Executor<CpuBackend>, u32)> {
    let file = Gguf::open(model)?;
    let config = ModelConfig::from_gguf(&file)?;
    let shard = Shard::new(&config, 0, 1)?;
    let (kernels, activations) = (Kernels::detect(), Activations::Int8);
    let options = CpuOptions { threads: 1, kernels, activations, cores: None, spin: false };
    let mut backend = CpuBackend::new(options, Box::new(Solo))?;
    backend.allocate_cache(CacheShape {
        layers: config.layers,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        blocks: BLOCKS,
        tokens_per_block: TOKENS_PER_BLOCK,
        dtype: CacheType::Int8,
    })?;
    let vocab = config.vocab as u32;
    let decoder = Decoder::load(&mut backend, &file, config, shard, |_| {})?;
    let limits = ExecutorLimits {
        max_batch_size: 8,
        max_seq_len: 2048,
        tokens_per_block: TOKENS_PER_BLOCK,
        kv_blocks: BLOCKS as u32,
    };
    Ok((Executor::new(backend, decoder, limits), vocab))
}

/// Requests that sample in every way that has state.
fn requests() -> Vec<Request> {
    let request = |id: u64, sampling: Sampling| {
        let prompt = (0..40).map(|at| (at * 97 + id as u32 * 1009) % 49152).collect();
        Request { sampling, ..Request::new(RequestId(id), prompt, MAX_TOKENS) }
    };
    let sampled = Sampling { top_k: 50, top_p: 0.9, seed: 3, ..Sampling::GREEDY };
    let penalised = Sampling {
        repetition_penalty: 1.1,
        frequency_penalty: 0.1,
        presence_penalty: 0.1,
        no_repeat_ngram_size: 4,
        top_p_decay: 0.999,
        min_p: 0.01,
        top_k: 0,
        ..sampled
    };
    let mut several = request(3, sampled);
    several.search = Search::Sample { sequences: 2 };
    several.wanted.log_probs = true;
    vec![request(1, Sampling::GREEDY), request(2, penalised), several]
}

#[test]
fn a_thousand_iterations_that_only_decode_allocate_nothing() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let (executor, vocab_size) = executor(&model)?;
    let (engine, inbox) = local_engine();
    let step = Arc::new(AtomicU64::new(0));
    let prefix = format!("shardrun_{}_steady{}_", nix::unistd::getuid(), std::process::id());
    let page = Arc::new(MetricsPage::create(&prefix, 0)?);
    let parts = LeaderParts {
        config: SchedulerConfig {
            max_batch_size: 8,
            max_num_tokens: 256,
            capacity: CapacityPolicy::GuaranteedNoEvict,
            chunking: ChunkingPolicy::FirstComeFirstServed,
            prefill: PrefillBudget::Auto,
            queue_timeout: None,
            attention_window: None,
            kv_cache: KvCacheConfig {
                blocks: BLOCKS as u32,
                tokens_per_block: TOKENS_PER_BLOCK,
                reuse: true,
                partial_reuse: true,
                event_buffer: 0,
            },
        },
        limits: EngineLimits {
            max_seq_len: 2048,
            kv_cache_tokens: (BLOCKS * TOKENS_PER_BLOCK) as u32,
            max_queue_size: 8,
            vocab_size,
            max_batch_size: 8,
            max_beam_width: 4,
            max_logits_rows: 0,
        },
        guides: GuideVocabulary::new(None, Vec::new),
        unbind: Box::new(|| ()),
        request_timeout: None,
        records: Records { iterations: 100, requests: 0, memory_bytes: 0 },
        mail: Box::new(NoMail),
        inbox,
        page: page.clone(),
        step: step.clone(),
    };
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        COUNTED.set(true);
        Ok(Leader::new(executor, parts)?.run()?)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let minute = Duration::from_secs(60);
    until("the engine to be ready", minute, || Ok(engine.limits().is_some()))?;
    let readers = runtime.block_on(async {
        let mut readers = Vec::new();
        for request in requests() {
            let mut stream = engine.submit(request).await?;
            readers.push(tokio::spawn(async move {
                while stream.next().await.is_some() {}
                stream.is_finished()
            }));
        }
        anyhow::Ok(readers)
    })?;
    let reach = |wanted: u64| {
        until("iterations", 5 * minute, || Ok(step.load(Ordering::Relaxed) >= wanted))?;
        anyhow::Ok((step.load(Ordering::Relaxed), ALLOCATIONS.load(Ordering::Relaxed)))
    };
    // Memory that grows with a sequence's blocks is made by then.
    let (first, before) = reach(100)?;
    let (last, after) = reach(first + ITERATIONS)?;
    assert_eq!(after - before, 0, "between iterations {first} and {last}");
    println!("no allocation in {} iterations of 4 sequences", last - first);
    for reader in readers {
        assert!(runtime.block_on(reader)?, "a request was lost");
    }
    engine.stop();
    thread.join().ok().context("the step thread panicked")?
}
