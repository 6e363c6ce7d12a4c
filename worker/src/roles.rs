//! What ranks do once they know each other: rank 0 leads and serves, the others follow.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use shardrun_comm::{Mail, NoMail, ShmMail};
use shardrun_config::{BatchSchedulerPolicy, ContextChunkingPolicy, Deployment};
use shardrun_engine::{
    CapacityPolicy, ChunkingPolicy, GuideVocabulary, KvCacheConfig, Leader, LeaderParts,
    LocalEngine, Records, SchedulerConfig, local_engine, longest_order,
};
use shardrun_gateway::{GatewayParts, GatewayState, ListenConfig, Listeners};
use shardrun_metrics::{MetricsPage, PageOf};
use shardrun_text::Tokenizer;
use shardrun_wire::lifeline::{FromRank, Hello, ToRank, Watch};
use shardrun_wire::{EngineClient, EngineLimits, EngineServer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::boot::Rank;
use crate::life::{Beats, Life, Watcher};
use crate::load::{self, Loaded};
use crate::signals;

/// Rank 0: the gateway answers from the first moment, and is ready when all shards are.
pub(crate) fn lead(
    rank: Rank,
    watcher: &Watcher,
    watch: Option<Watch>,
    hello: Hello,
    beats: Beats,
) -> anyhow::Result<()> {
    let (engine, inbox) = local_engine();
    let life = Life::begin(watcher, watch, hello, beats, rank.step.clone(), {
        let engine = engine.clone();
        let grace = rank.deployment.supervision.drain_timeout;
        move |order| match order {
            ToRank::Drain => drain(&engine, grace),
            ToRank::Stop => engine.stop(),
            ToRank::Alive => {}
        }
    })?;
    let server = &rank.deployment.server;
    let listeners = Listeners::bind(&ListenConfig {
        host: server.host,
        http_port: server.http_port,
        metrics_port: server.metrics_port,
    })?;
    let addresses = (listeners.http_address()?, listeners.metrics_address()?);
    signals::attend({
        let engine = engine.clone();
        let grace = rank.deployment.supervision.drain_timeout;
        move || drain(&engine, grace)
    })?;

    let pages = pages(&rank)?;
    let state = GatewayState::new(GatewayParts {
        engine: Arc::new(engine.clone()),
        page: rank.page.clone(),
        scrape: Arc::new(move || shardrun_metrics::render(&pages)),
        max_body_bytes: server.max_body_bytes,
    });
    let mut gateway = Gateway::start(listeners, state.clone())?;

    // Read while the shards load: it takes as long.
    let text = {
        let file = load::open(&rank)?;
        std::thread::Builder::new()
            .name("tokenizer".into())
            .spawn(move || Tokenizer::from_gguf(&file))?
    };
    let loaded = load::shard(&rank, &life)?;
    let text = text.join().map_err(|_| anyhow::anyhow!("reading the tokenizer panicked"))??;
    let text = Arc::new(text);
    state.set_text(text.clone());
    let mail = mail(&rank, loaded.max_seq_len as usize)?;
    // Every rank has loaded, and is connected.
    rank.world.barrier()?;
    if let Watcher::Leader(socket) = watcher {
        // Nobody comes to it any more; left where it is, it would only be litter.
        let _ = std::fs::remove_file(socket);
    }

    let config = scheduler_config(&rank.deployment, &loaded);
    let Loaded { executor, max_seq_len, kv_blocks, vocab, memory_bytes, .. } = loaded;
    let model = &rank.deployment.model;
    let tokens_per_block = rank.deployment.kv_cache.tokens_per_block;
    let limits = EngineLimits {
        max_seq_len,
        kv_cache_tokens: kv_blocks * tokens_per_block as u32,
        max_queue_size: model.max_queue_size as u32,
        vocab_size: vocab,
        max_batch_size: model.max_batch_size as u32,
        max_beam_width: model.max_beam_width as u32,
        max_logits_rows: model.max_logits_rows as u32,
    };
    let kept = &rank.deployment.metrics;
    let socket = watcher.path().with_file_name("engine");
    gateway.offer(&socket, Arc::new(engine))?;
    let leader = Leader::new(
        executor,
        LeaderParts {
            config,
            limits,
            guides: GuideVocabulary::new(text.end_id(), move || token_bytes(&text)),
            request_timeout: model.request_timeout,
            records: Records {
                iterations: kept.iter_stats_max_iterations,
                requests: kept.request_stats_max_iterations,
                memory_bytes,
            },
            mail,
            inbox,
            page: rank.page.clone(),
            step: rank.step.clone(),
        },
    )?;
    let (http, metrics) = (addresses.0.to_string(), addresses.1.to_string());
    info!("serving {} on {http}, metrics on {metrics}", rank.deployment.name);
    if !life.is_supervised() {
        println!("{}", shardrun_config::ready_text(&rank.deployment.name, &http, &metrics));
    }
    life.say(&FromRank::Ready { http, metrics });
    let result = leader.run();
    if result.is_ok() {
        life.end();
    }
    gateway.finish();
    result.context("the engine failed")?;
    rank.world.finalize();
    info!("ended");
    Ok(())
}

/// Every other rank.
pub(crate) fn follow(rank: Rank, loaded: Loaded, life: &Life) -> anyhow::Result<()> {
    let mail = mail(&rank, loaded.max_seq_len as usize)?;
    rank.world.barrier()?;
    shardrun_engine::follow(loaded.executor, mail, &rank.page, &rank.step)?;
    life.end();
    rank.world.finalize();
    info!("ended");
    Ok(())
}

/// Refuses new requests, and ends the running ones when the grace is over.
fn drain(engine: &LocalEngine, grace: Duration) {
    engine.drain();
    let engine = engine.clone();
    // Without the thread the drain has no end but that of its requests, and a second signal.
    let _ = std::thread::Builder::new().name("drain".into()).spawn(move || {
        std::thread::sleep(grace);
        engine.stop();
    });
}

/// The way of plans from rank 0 to the others. Collective.
fn mail(rank: &Rank, max_seq_len: usize) -> anyhow::Result<Box<dyn Mail>> {
    if rank.world.size() == 1 {
        return Ok(Box::new(NoMail));
    }
    let (model, cache) = (&rank.deployment.model, &rank.deployment.kv_cache);
    let blocks = max_seq_len.div_ceil(cache.tokens_per_block);
    let longest = longest_order(model.max_batch_size, model.max_num_tokens, blocks);
    Ok(if load::shares_memory(rank)? {
        Box::new(ShmMail::new(&rank.world, &rank.prefix, longest, rank.patience)?)
    } else {
        Box::new(rank.world.mpi_mail()?)
    })
}

/// The metrics of all ranks on this node. They made their pages before they came to the barrier that
/// this rank has passed.
fn pages(rank: &Rank) -> anyhow::Result<Vec<PageOf>> {
    let own = PageOf { rank: 0, tp_rank: 0, node: rank.host.clone(), page: rank.page.clone() };
    let others = (1..rank.world.size()).filter_map(|other| {
        // A rank on another node has no page here.
        let page = Arc::new(MetricsPage::open(&rank.prefix, other).ok()?);
        let other = other as u32;
        Some(PageOf { rank: other, tp_rank: other, node: rank.host.clone(), page })
    });
    Ok(std::iter::once(own).chain(others).collect())
}

/// The threads that speak HTTP.
struct Gateway {
    runtime: tokio::runtime::Runtime,
    serving: JoinSet<()>,
    end: watch::Sender<bool>,
}

impl Gateway {
    fn start(listeners: Listeners, state: GatewayState) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gateway")
            .enable_all()
            .build()
            .context("cannot start the gateway's threads")?;
        let (end, ended) = watch::channel(false);
        let mut serving = JoinSet::new();
        let serve = async move {
            if let Err(error) = shardrun_gateway::serve(listeners, state, over(ended)).await {
                tracing::error!("{error}");
            }
        };
        serving.spawn_on(serve, runtime.handle());
        Ok(Self { runtime, serving, end })
    }

    /// Offers the engine to this user's processes on the node, too.
    fn offer(&mut self, path: &Path, engine: Arc<dyn EngineClient>) -> anyhow::Result<()> {
        let server = EngineServer::bind(path).context("cannot offer the engine's socket")?;
        let ended = self.end.subscribe();
        let serve = async move {
            if let Err(error) = server.serve(engine, over(ended)).await {
                tracing::error!("{error}");
            }
        };
        self.serving.spawn_on(serve, self.runtime.handle());
        Ok(())
    }

    /// Lets the last responses go out.
    fn finish(self) {
        const LAST_RESPONSES: Duration = Duration::from_secs(1);
        let _ = self.end.send(true);
        let serving = self.serving.join_all();
        let _ =
            self.runtime.block_on(async { tokio::time::timeout(LAST_RESPONSES, serving).await });
        self.runtime.shutdown_background();
    }
}

/// Until the end is told.
async fn over(mut ended: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end, too.
    let _ = ended.wait_for(|&ended| ended).await;
}

/// What bounds the engine, and how it chooses, as the deployment says.
fn scheduler_config(deployment: &Deployment, loaded: &Loaded) -> SchedulerConfig {
    let (model, cache) = (&deployment.model, &deployment.kv_cache);
    SchedulerConfig {
        max_batch_size: model.max_batch_size,
        max_num_tokens: model.max_num_tokens,
        capacity: match model.batch_scheduler_policy {
            BatchSchedulerPolicy::GuaranteedNoEvict => CapacityPolicy::GuaranteedNoEvict,
            BatchSchedulerPolicy::MaxUtilization => CapacityPolicy::MaxUtilization,
            BatchSchedulerPolicy::StaticBatch => CapacityPolicy::StaticBatch,
        },
        chunking: match model.context_chunking_policy {
            ContextChunkingPolicy::FirstComeFirstServed => ChunkingPolicy::FirstComeFirstServed,
            ContextChunkingPolicy::EqualProgress => ChunkingPolicy::EqualProgress,
        },
        queue_timeout: model.queue_timeout,
        attention_window: loaded.attention_window,
        kv_cache: KvCacheConfig {
            blocks: loaded.kv_blocks,
            tokens_per_block: cache.tokens_per_block,
            reuse: cache.enable_block_reuse,
            partial_reuse: cache.enable_partial_reuse,
            event_buffer: cache.event_buffer_max_size,
        },
    }
}

/// What each token of the vocabulary is in a text; control tokens are nothing.
fn token_bytes(text: &Tokenizer) -> Vec<Vec<u8>> {
    (0..text.vocab_size()).map(|token| text.bytes(token, true).to_vec()).collect()
}
