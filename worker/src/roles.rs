//! What ranks do once they know each other: rank 0 leads and serves, the others follow.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use shardrun_comm::{Mail, NoMail, ShmMail};
use shardrun_config::{AutoOr, BatchSchedulerPolicy, ContextChunkingPolicy, Mode, Model};
use shardrun_engine::{
    CapacityPolicy, ChunkingPolicy, GuideVocabulary, KvCacheConfig, Leader, LeaderParts,
    LocalEngine, PrefillBudget, Records, SchedulerConfig, local_engine, longest_order,
};
use shardrun_gateway::{
    ConnectionLimits, GatewayParts, GatewayState, ListenConfig, Listeners, ModelParts,
};
use shardrun_text::Tokenizer;
use shardrun_wire::lifeline::{FromRank, Hello, ToRank, Watch};
use shardrun_wire::{EngineClient, EngineLimits, EngineServer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::boot::Rank;
use crate::life::{Beats, Dial, Life, Watcher};
use crate::load::{self, Loaded};
use crate::offered::{Offer, over};
use crate::{exit, signals, turns};

/// Rank 0: schedules, and talks to clients, or to the gateway that the supervisor has.
pub(crate) fn lead(
    rank: Rank,
    watcher: &Watcher,
    watch: Option<Watch>,
    hello: Hello,
    beats: Beats,
) -> anyhow::Result<()> {
    // Before this thread is bound to one of them.
    let cores = sched_getaffinity(Pid::from_raw(0));
    let (engine, inbox) = local_engine();
    let grace = rank.deployment.supervision.drain_timeout;
    let life = Life::begin(watcher, watch.clone(), hello, beats, rank.report.clone(), {
        let (engine, pages) = (engine.clone(), rank.pages.clone());
        move |order| match order {
            ToRank::Drain { grace_ms } => drain(&engine, Duration::from_millis(grace_ms)),
            ToRank::Stop => engine.stop(),
            ToRank::Counted { rank, host, words } => pages.heard(rank, &host, &words),
            ToRank::Alive => {}
        }
    })?;
    let mut front = Front::start()?;
    let gateway = match rank.deployment.mode {
        Mode::Leader | Mode::Auto => Some(front.open_gateway(&rank, &engine)?),
        Mode::Orchestrator => None,
    };
    signals::attend({
        let (engine, life) = (engine.clone(), life.speaker());
        // A supervisor has others to think of.
        move |signal| {
            if !life.say(&FromRank::Signalled { signal }) {
                drain(&engine, grace);
            }
        }
    });

    let loading = Instant::now();
    // Read while the shards load: it takes as long.
    let file = Arc::new(load::open(&rank)?);
    let text = {
        let file = file.clone();
        std::thread::Builder::new()
            .name("tokenizer".into())
            .spawn(move || Tokenizer::from_gguf(&file))?
    };
    let loaded = load::shard(&rank, &file, &life)?;
    drop(file);
    let shard_loaded = Instant::now();
    let text = text.join().map_err(|_| anyhow::anyhow!("reading the tokenizer panicked"))??;
    let text = Arc::new(text);
    let text_loaded = Instant::now();
    if let Some(gateway) = &gateway {
        gateway.state.set_text(&rank.model.name, text.clone())?;
    }
    let mail = mail(&rank, loaded.max_seq_len as usize)?;
    // Every rank has loaded, and is connected.
    rank.world.barrier()?;
    if let Some(watch) = &watch {
        // Nobody comes to it any more; left where it is, its socket would only be litter.
        watch.stop_listening();
    }

    let config = scheduler_config(&rank.model, &loaded);
    let Loaded { executor, max_seq_len, kv_blocks, vocab, memory_bytes, .. } = loaded;
    let model = &rank.model;
    let limits = EngineLimits {
        max_seq_len,
        // A cache of 2^32 tokens has one more than can be told.
        kv_cache_tokens: kv_blocks.saturating_mul(model.kv_cache.tokens_per_block as u32),
        max_queue_size: model.max_queue_size as u32,
        vocab_size: vocab,
        max_batch_size: model.max_batch_size as u32,
        max_beam_width: model.max_beam_width as u32,
        max_logits_rows: model.max_logits_rows as u32,
    };
    let kept = &rank.deployment.metrics;
    let served: Arc<dyn EngineClient> = Arc::new(engine);
    match gateway {
        Some(_) => front.offer_socket(&rank.run_dir.join("engine"), served)?,
        None => front.offer_link(watcher.dial(), &rank, served)?,
    }
    let leader = Leader::new(
        executor,
        LeaderParts {
            config,
            limits,
            guides: GuideVocabulary::new(text.end_id(), move || token_bytes(&text)),
            unbind: Box::new(move || {
                let bound = cores.and_then(|cores| sched_setaffinity(Pid::from_raw(0), &cores));
                if let Err(error) = bound {
                    debug!(%error, "guides are computed on the step thread's core");
                }
            }),
            request_timeout: model.request_timeout,
            records: Records {
                iterations: kept.iter_stats_max_iterations,
                requests: kept.request_stats_max_iterations,
                memory_bytes,
            },
            mail,
            inbox,
            page: rank.page.clone(),
            step: rank.report.step.clone(),
        },
    )?;
    match gateway {
        Some(OpenGateway { http, metrics, .. }) => {
            info!("serving {} on {http}, metrics on {metrics}", rank.deployment.name);
            if !life.is_supervised() {
                println!("{}", shardrun_config::ready_text(&rank.deployment.name, &http, &metrics));
            }
            life.say(&FromRank::Ready { http, metrics });
        }
        None => {
            info!("serving {} to the supervisor", model.name);
            life.say(&FromRank::Serving);
        }
    }
    let ms = |time: Duration| time.as_millis() as u64;
    info!(
        mpi_init_ms = ms(rank.beginning.mpi),
        settle_ms = ms(loading - rank.beginning.at - rank.beginning.mpi),
        load_ms = ms(shard_loaded - loading),
        then_tokenizer_ms = ms(text_loaded - shard_loaded),
        then_others_ms = ms(text_loaded.elapsed()),
        "ready {} ms after main began",
        ms(rank.beginning.at.elapsed())
    );
    let result = leader.run();
    front.finish();
    result.context("the engine failed")?;
    life.begin_to_end();
    rank.world.finalize();
    info!("ended");
    life.end();
    Ok(())
}

/// Every other rank.
pub(crate) fn follow(rank: Rank, loaded: Loaded, life: &Life) -> anyhow::Result<()> {
    let mail = mail(&rank, loaded.max_seq_len as usize)?;
    rank.world.barrier()?;
    shardrun_engine::follow(loaded.executor, mail, &rank.page, &rank.report.step)?;
    life.begin_to_end();
    rank.world.finalize();
    info!("ended");
    life.end();
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
    let (model, cache) = (&rank.model, &rank.model.kv_cache);
    let blocks = max_seq_len.div_ceil(cache.tokens_per_block);
    let longest = longest_order(model.max_batch_size, model.max_num_tokens, blocks);
    Ok(if load::shares_memory(rank)? {
        Box::new(ShmMail::new(&rank.world, &rank.prefix, longest, rank.patience)?)
    } else {
        Box::new(rank.world.mpi_mail(rank.patience)?)
    })
}

/// The threads that speak to clients, or to the supervisor's gateway.
struct Front {
    runtime: tokio::runtime::Runtime,
    serving: JoinSet<()>,
    end: watch::Sender<bool>,
}

/// A gateway that answers, though its model may still be loading.
struct OpenGateway {
    state: GatewayState,
    http: String,
    metrics: String,
}

impl Front {
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gateway")
            .on_thread_start(|| {
                if let Err(error) = turns::take_short() {
                    debug!(%error, "the gateway waits for its turn as others do");
                }
            })
            .enable_all()
            .build()
            .context("cannot start the gateway's threads")?;
        Ok(Self { runtime, serving: JoinSet::new(), end: watch::channel(false).0 })
    }

    /// Answers HTTP from now on.
    fn open_gateway(&mut self, rank: &Rank, engine: &LocalEngine) -> anyhow::Result<OpenGateway> {
        let server = &rank.deployment.server;
        let listeners = Listeners::bind(&ListenConfig {
            host: server.host,
            http_port: server.http_port,
            metrics_port: server.metrics_port,
        })?;
        let (http, metrics) = (listeners.http_address()?, listeners.metrics_address()?);
        // Every rank made its page before it came to the barrier that this one has passed.
        rank.pages.open(&rank.prefix, &rank.host, rank.world.size());
        let pages = rank.pages.clone();
        let state = GatewayState::new(GatewayParts {
            scrape: Arc::new(move || shardrun_metrics::render(&pages.pages())),
            max_body_bytes: server.max_body_bytes,
            connections: ConnectionLimits::default(),
            repository: None,
        });
        state.add_model(ModelParts {
            name: rank.model.name.clone(),
            engine: Arc::new(engine.clone()),
            page: rank.page.clone(),
            default: true,
            request_timeout: rank.model.request_timeout,
        })?;
        let (ended, serving) = (self.end.subscribe(), state.clone());
        self.serve(async move {
            if let Err(error) = shardrun_gateway::serve(listeners, serving, over(ended)).await {
                tracing::error!("{error}");
            }
        });
        Ok(OpenGateway { state, http: http.to_string(), metrics: metrics.to_string() })
    }

    /// Offers the engine to this user's processes on the node.
    fn offer_socket(&mut self, path: &Path, engine: Arc<dyn EngineClient>) -> anyhow::Result<()> {
        let server = EngineServer::bind(path).context("cannot offer the engine's socket")?;
        let ended = self.end.subscribe();
        self.serve(async move {
            if let Err(error) = server.serve(engine, over(ended)).await {
                tracing::error!("{error}");
            }
        });
        Ok(())
    }

    /// Offers the engine to the supervisor.
    fn offer_link(
        &mut self,
        dial: &Dial,
        rank: &Rank,
        engine: Arc<dyn EngineClient>,
    ) -> anyhow::Result<()> {
        let offer = Offer {
            dial: dial.clone(),
            id: rank.id,
            host: rank.host.clone(),
            patience: rank.deployment.supervision.heartbeat_timeout,
        };
        let link = offer.open()?;
        let ended = self.end.subscribe();
        self.serve(async move {
            if let Err(error) = offer.serve(link, engine, ended).await {
                exit::lost(&format!("{error:#}"));
            }
        });
        Ok(())
    }

    fn serve(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.serving.spawn_on(task, self.runtime.handle());
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

/// What bounds the engine, and how it chooses, as the deployment says.
fn scheduler_config(model: &Model, loaded: &Loaded) -> SchedulerConfig {
    let cache = &model.kv_cache;
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
        prefill: match model.prefill_budget {
            AutoOr::Auto => PrefillBudget::Auto,
            AutoOr::Fixed(tokens) => PrefillBudget::Tokens(tokens),
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
