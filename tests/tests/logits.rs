//! The logits of the real model against the golden ones of an independent float32 implementation,
//! for every instruction set that this machine has.

use std::path::Path;

use anyhow::{Context as _, ensure};
use shardrun_comm::Solo;
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Isa, Kernels};
use shardrun_files::Gguf;
use shardrun_model::{
    Backend as _, Batch, CacheShape, CacheType, Decoder, ModelConfig, Shard, Span,
};
use shardrun_tests::{LOGIT_ERROR, golden, model};

const TOKENS_PER_BLOCK: usize = 32;

/// The whole model in this process.
struct Engine {
    backend: CpuBackend,
    decoder: Decoder<CpuBackend>,
}

impl Engine {
    fn load(model: &Path, kernels: Kernels, activations: Activations) -> anyhow::Result<Self> {
        let file = Gguf::open(model)?;
        let config = ModelConfig::from_gguf(&file)?;
        let shard = Shard::new(&config, 0, 1)?;
        let options = CpuOptions { threads: 2, kernels, activations, cores: None, spin: false };
        let mut backend = CpuBackend::new(options, Box::new(Solo))?;
        backend.allocate_cache(CacheShape {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            blocks: 8,
            tokens_per_block: TOKENS_PER_BLOCK,
            dtype: CacheType::F32,
        })?;
        let decoder = Decoder::load(&mut backend, &file, config, shard, |_| {})?;
        Ok(Self { backend, decoder })
    }

    /// The logits after `prompt`.
    fn last_logits(&mut self, prompt: &[u32]) -> anyhow::Result<Vec<f32>> {
        let blocks = prompt.len().div_ceil(TOKENS_PER_BLOCK);
        let batch = Batch {
            tokens: prompt.to_vec(),
            spans: vec![Span { rows: 0..prompt.len(), position: 0, blocks: 0..blocks }],
            blocks: (0..blocks as u32).collect(),
            sampled: vec![prompt.len() as u32 - 1],
        };
        let logits = self.decoder.forward(&mut self.backend, &batch)?;
        let logits = logits.context("rank 0 has the logits")?;
        Ok(self.backend.read(&logits)?.to_vec())
    }
}

#[test]
fn every_instruction_set_gives_the_reference_s_logits() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let golden = golden()?;
    let full = golden.prompts.iter().filter_map(|prompt| prompt.logits_full_every_97.as_ref());
    assert_eq!(full.map(|values| values.len()).collect::<Vec<_>>(), [507, 507]);
    for isa in Isa::ALL {
        let Ok(kernels) = Kernels::new(isa) else {
            println!("skipped: this machine has no {isa}");
            continue;
        };
        let mut engine = Engine::load(&model, kernels, Activations::Float32)?;
        let mut largest = 0.0f32;
        for prompt in &golden.prompts {
            let logits = engine.last_logits(&prompt.ids)?;
            ensure!(logits.iter().all(|logit| logit.is_finite()), "{:?}", prompt.text);
            let error = prompt.largest_error(&logits);
            assert!(
                error < LOGIT_ERROR,
                "{isa}: a logit after {:?} differs by {error}, the limit is {LOGIT_ERROR}",
                prompt.text
            );
            largest = largest.max(error);
        }
        println!("{isa}: the largest error is {largest:.2e}, the limit {LOGIT_ERROR:.0e}");
    }
    Ok(())
}
