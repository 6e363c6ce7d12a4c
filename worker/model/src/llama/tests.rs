use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::ops::Range;

use super::*;
use crate::{BlockCopy, CacheShape, HeadShard, Rope, RopePairs, Span};

/// Computes nothing and writes down which window the attention of which layer is asked for.
#[derive(Default)]
struct Listener {
    windows: Vec<(usize, Option<NonZeroUsize>)>,
}

impl Backend for Listener {
    type Error = Infallible;
    type Matrix = ();
    type Vector = ();
    type Tensor = ();
    type Operand = ();

    fn pack(&mut self, _: &[MatrixView<'_>]) -> Result<(), Infallible> {
        Ok(())
    }

    fn vector(&mut self, _: &[f32]) -> Result<(), Infallible> {
        Ok(())
    }

    fn allocate_cache(&mut self, _: CacheShape) -> Result<(), Infallible> {
        Ok(())
    }

    fn copy_blocks(&mut self, _: &[BlockCopy]) -> Result<(), Infallible> {
        Ok(())
    }

    fn begin(&mut self, _: &Batch) -> Result<(), Infallible> {
        Ok(())
    }

    fn embed(&mut self, (): &(), _: u32) -> Result<(), Infallible> {
        Ok(())
    }

    fn rms_norm(&mut self, (): &(), (): &(), _: f32) -> Result<(), Infallible> {
        Ok(())
    }

    fn linear(&mut self, (): &(), (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn attention(
        &mut self,
        layer: usize,
        (): (),
        _: &HeadShard,
        _: &Rope,
        window: Option<NonZeroUsize>,
    ) -> Result<(), Infallible> {
        self.windows.push((layer, window));
        Ok(())
    }

    fn gated_linear(&mut self, (): &(), (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn all_reduce(&mut self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn all_reduce_add(&mut self, (): (), (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn sampled_rows(&mut self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn gather_columns(&mut self, (): (), _: &[Range<usize>]) -> Result<Option<()>, Infallible> {
        Ok(Some(()))
    }

    fn read<'a>(&'a mut self, (): &'a ()) -> Result<&'a [f32], Infallible> {
        Ok(&[])
    }
}

#[test]
fn each_layer_s_attention_has_its_own_window() -> Result<(), Box<dyn std::error::Error>> {
    let config = ModelConfig {
        layers: 5,
        hidden: 8,
        ffn: 32,
        query_heads: 1,
        kv_heads: 1,
        head_dim: 8,
        context_len: 64,
        vocab: 10,
        norm_epsilon: 1e-5,
        rope: Rope { theta: 1e4, dims: 8, pairs: RopePairs::Neighbours },
        attention_windows: vec![NonZeroUsize::new(4), None],
    };
    let layer = || Layer {
        attention_norm: (),
        qkv: (),
        attention_output: (),
        mlp_norm: (),
        gate_up: (),
        down: (),
    };
    let llama = Llama::<Listener> {
        shard: Shard::new(&config, 0, 1)?,
        layers: (0..config.layers).map(|_| layer()).collect(),
        config,
        embedding: (),
        norm: (),
        head: None,
    };
    let batch = Batch {
        tokens: vec![1],
        spans: vec![Span { rows: 0..1, position: 0, blocks: 0..1 }],
        blocks: vec![0],
        sampled: vec![0],
    };
    let mut listener = Listener::default();
    assert!(llama.forward(&mut listener, &batch)?.is_some());
    let four = NonZeroUsize::new(4);
    assert_eq!(listener.windows, [(0, four), (1, None), (2, four), (3, None), (4, four)]);
    Ok(())
}
