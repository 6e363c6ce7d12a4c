//! Bringing this rank's share of the model into memory.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Context, bail};
use shardrun_comm::{Group, ShmGroup, Solo};
use shardrun_config::{
    Activations as ActivationsChoice, Collectives, Isa as IsaChoice, KvCache, KvCacheDtype,
    ModelSource,
};
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Isa, Kernels};
use shardrun_engine::{Executor, ExecutorLimits};
use shardrun_files::Gguf;
use shardrun_metrics::Gauge;
use shardrun_model::{Backend, CacheShape, CacheType, Decoder, ModelConfig, Shard};
use shardrun_wire::lifeline::FromRank;
use tracing::info;

use crate::boot::Rank;
use crate::life::Life;

/// A rank that can run plans.
pub(crate) struct Loaded {
    pub(crate) executor: Executor<CpuBackend>,
    /// Tokens of the longest sequence.
    pub(crate) max_seq_len: u32,
    /// Blocks of the cache, the least over all ranks.
    pub(crate) kv_blocks: u32,
    pub(crate) vocab: u32,
    /// How many tokens back any layer sees; `None` for all.
    pub(crate) attention_window: Option<usize>,
    /// Bytes of weights and cache.
    pub(crate) memory_bytes: u64,
}

/// Opens the model file, which [`shard`] reads from.
pub(crate) fn open(rank: &Rank) -> anyhow::Result<Gguf> {
    let ModelSource::Path(path) = &rank.model.source else {
        bail!("a settled deployment's model.source is a path");
    };
    Gguf::open(path).with_context(|| format!("cannot load the model on {}", rank.host))
}

/// Packs this rank's shard and makes its cache. Collective.
pub(crate) fn shard(rank: &Rank, file: &Gguf, life: &Life) -> anyhow::Result<Loaded> {
    let began = Instant::now();
    let model = &rank.model;
    let mut config = ModelConfig::from_gguf(file)?;
    config.attention_windows = windows(&rank.model.kv_cache, config.layers)?;
    let shard = Shard::new(&config, rank.world.rank(), rank.world.size())?;
    let max_seq_len = model.max_seq_len.unwrap_or(config.context_len);
    if max_seq_len > config.context_len {
        bail!(
            "model.max_seq_len is {max_seq_len}; the model's context has {} tokens",
            config.context_len
        );
    }
    let kernels = match model.isa {
        IsaChoice::Auto => Kernels::detect(),
        IsaChoice::Scalar => Kernels::new(Isa::Scalar)?,
        IsaChoice::Avx2 => Kernels::new(Isa::Avx2)?,
        IsaChoice::Avx512 => Kernels::new(Isa::Avx512)?,
        IsaChoice::Avx512Bf16 => Kernels::new(Isa::Avx512Bf16)?,
        IsaChoice::Amx => Kernels::new(Isa::Amx)?,
    };
    let share = &rank.share;
    let options = CpuOptions {
        threads: share.threads,
        kernels,
        activations: match model.activations {
            ActivationsChoice::Int8 => Activations::Int8,
            ActivationsChoice::Bf16 => Activations::Bfloat16,
            ActivationsChoice::F32 => Activations::Float32,
        },
        cores: share.cores.as_ref().map(|cores| cores[..share.threads].to_vec()),
        spin: share.cores.is_some(),
    };
    let mut backend = CpuBackend::new(options, group(rank)?)?;

    let cache = &rank.model.kv_cache;
    let own_blocks = cache.num_blocks() as u64;
    let agreed = rank.world.all_gather_u64(own_blocks)?;
    let blocks = agreed.into_iter().min().unwrap_or(own_blocks) as usize;
    let shape = CacheShape {
        layers: config.layers,
        kv_heads: shard.heads.kv_heads.len(),
        head_dim: config.head_dim,
        blocks,
        tokens_per_block: cache.tokens_per_block,
        dtype: match cache.dtype {
            KvCacheDtype::F32 => CacheType::F32,
            KvCacheDtype::Bf16 => CacheType::Bf16,
            KvCacheDtype::F16 => CacheType::F16,
            KvCacheDtype::Int8 => CacheType::Int8,
        },
    };
    let attention_window = config.widest_attention_window().map(NonZeroUsize::get);
    let layers = config.layers as u32;
    let description = describe(&shard, &config, share, kernels.isa());
    let vocab = config.vocab as u32;
    let decoder = Decoder::load(&mut backend, file, config, shard, |done| {
        life.say(&FromRank::Loading { done: done as u32, layers });
    })?;
    let weights_ms = began.elapsed().as_millis() as u64;
    backend.allocate_cache(shape)?;

    let load_ms = began.elapsed().as_millis() as u64;
    let kv_cache_ms = load_ms - weights_ms;
    let (weight_bytes, kv_cache_bytes) =
        (backend.weight_bytes() as u64, shape.bytes().unwrap_or(usize::MAX) as u64);
    rank.page.gauge(Gauge::LoadUs).set(began.elapsed().as_micros() as u64);
    rank.page.gauge(Gauge::WeightBytes).set(weight_bytes);
    rank.page.gauge(Gauge::KvCacheBytes).set(kv_cache_bytes);
    info!(
        weight_bytes,
        weights_ms, kv_cache_bytes, kv_cache_ms, "loaded in {load_ms} ms: {description}"
    );
    life.say(&FromRank::Loaded { weight_bytes, kv_cache_bytes, load_ms, shard: description });
    let limits = ExecutorLimits {
        max_batch_size: model.max_batch_size,
        max_seq_len,
        tokens_per_block: cache.tokens_per_block,
        kv_blocks: blocks as u32,
    };
    let executor = Executor::new(backend, decoder, limits);
    Ok(Loaded {
        executor,
        max_seq_len: max_seq_len as u32,
        kv_blocks: blocks as u32,
        vocab,
        attention_window,
        memory_bytes: weight_bytes + kv_cache_bytes,
    })
}

/// What each layer sees, as the deployment says.
fn windows(cache: &KvCache, layers: usize) -> anyhow::Result<Vec<Option<NonZeroUsize>>> {
    let windows = &cache.max_attention_window;
    if windows.len() > layers {
        bail!(
            "kv_cache.max_attention_window has {} windows; the model has {layers} layers",
            windows.len()
        );
    }
    Ok(windows.iter().map(|&window| NonZeroUsize::new(window)).collect())
}

/// The group that carries this rank's collectives. Collective.
fn group(rank: &Rank) -> anyhow::Result<Box<dyn Group>> {
    if rank.world.size() == 1 {
        return Ok(Box::new(Solo));
    }
    Ok(if shares_memory(rank)? {
        Box::new(ShmGroup::new(&rank.world, &rank.prefix, rank.patience)?)
    } else {
        Box::new(rank.world.mpi_group(rank.patience)?)
    })
}

/// Whether tensors and plans go through shared memory. Collective.
pub(crate) fn shares_memory(rank: &Rank) -> anyhow::Result<bool> {
    let one_node = rank.world.on_one_node()?;
    match rank.model.collectives {
        Collectives::Auto => Ok(one_node),
        Collectives::Mpi => Ok(false),
        Collectives::Shm if one_node => Ok(true),
        Collectives::Shm => bail!(
            "model.collectives is \"shm\", and the ranks are on several nodes; \"auto\" and \"mpi\" \
             work there"
        ),
    }
}

fn describe(
    shard: &Shard,
    config: &ModelConfig,
    share: &shardrun_config::NodeShare,
    isa: Isa,
) -> String {
    let heads = &shard.heads;
    let cores = match &share.cores {
        Some(cores) => format!("cores {:?}", &cores[..share.threads]),
        None => "cores shared with other ranks".to_owned(),
    };
    format!(
        "heads {:?} of {}, kv heads {:?} of {}, mlp columns {:?} of {}, vocabulary {:?} of {}; cpu \
         backend with {isa} kernels, {} thread{}, {cores}",
        heads.query_heads,
        config.query_heads,
        heads.kv_heads,
        config.kv_heads,
        shard.ffn,
        config.ffn,
        shard.own_vocab(),
        config.vocab,
        share.threads,
        if share.threads == 1 { "" } else { "s" },
    )
}
