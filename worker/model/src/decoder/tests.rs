use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::ops::Range;

use shardrun_files::{Gguf, MatrixView, TensorType, Value, testing::GgufBuilder};

use super::*;
use crate::{BlockCopy, CacheShape, HeadShard, Rope, RopePairs, Span};

/// Computes nothing and writes down which window the attention of which layer is asked for, and
/// which biases are added.
#[derive(Default)]
struct Listener {
    windows: Vec<(usize, Option<NonZeroUsize>)>,
    biases: Vec<Vec<f32>>,
}

impl Backend for Listener {
    type Error = Infallible;
    type Matrix = ();
    type Vector = Vec<f32>;
    type Tensor = ();
    type Operand = ();

    fn pack(&mut self, _: &[MatrixView<'_>]) -> Result<(), Infallible> {
        Ok(())
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vec<f32>, Infallible> {
        Ok(values.to_vec())
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

    fn rms_norm(&mut self, (): &(), _: &Vec<f32>, _: f32) -> Result<(), Infallible> {
        Ok(())
    }

    fn linear(&mut self, (): &(), (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn add_bias(&mut self, (): (), bias: &Vec<f32>) -> Result<(), Infallible> {
        self.biases.push(bias.clone());
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

    fn linear_all_reduce_add(&mut self, (): (), (): &(), (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn sampled_rows(&mut self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn gather_columns(&mut self, (): (), _: &[Range<usize>]) -> Result<Option<()>, Infallible> {
        Ok(Some(()))
    }

    fn best_columns(
        &mut self,
        (): &(),
        (): &(),
        _: &[Range<usize>],
        into: &mut Vec<u32>,
    ) -> Result<(), Infallible> {
        into.push(7);
        Ok(())
    }

    fn read<'a>(&'a mut self, (): &'a ()) -> Result<&'a [f32], Infallible> {
        Ok(&[])
    }
}

fn one_token() -> Batch {
    Batch {
        tokens: vec![1],
        spans: vec![Span { rows: 0..1, position: 0, blocks: 0..1 }],
        blocks: vec![0],
        sampled: vec![0],
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
        qkv_bias: false,
        rope: Rope { theta: 1e4, dims: 8, pairs: RopePairs::Neighbours },
        attention_windows: vec![NonZeroUsize::new(4), None],
    };
    let layer = || Layer {
        attention_norm: Vec::new(),
        qkv: (),
        qkv_bias: None,
        attention_output: (),
        mlp_norm: Vec::new(),
        gate_up: (),
        down: (),
    };
    let decoder = Decoder::<Listener> {
        shard: Shard::new(&config, 0, 1)?,
        layers: (0..config.layers).map(|_| layer()).collect(),
        config,
        embedding: (),
        norm: Vec::new(),
        head: None,
    };
    let batch = one_token();
    let mut listener = Listener::default();
    assert!(decoder.forward(&mut listener, &batch)?.is_some());
    let mut best = Vec::new();
    decoder.forward_best(&mut Listener::default(), &batch, &mut best)?;
    assert_eq!(best, [7]);
    let four = NonZeroUsize::new(4);
    assert_eq!(listener.windows, [(0, four), (1, None), (2, four), (3, None), (4, four)]);
    Ok(())
}

/// A model file of one layer with four query heads and two KV heads of two elements.
fn small(architecture: &str) -> GgufBuilder {
    let key = |name: &str| format!("{architecture}.{name}");
    let number = |n| Value::U32(n);
    let file = GgufBuilder::new()
        .string("general.architecture", architecture)
        .value(&key("block_count"), number(1))
        .value(&key("embedding_length"), number(8))
        .value(&key("feed_forward_length"), number(64))
        .value(&key("attention.head_count"), number(4))
        .value(&key("attention.head_count_kv"), number(2))
        .value(&key("context_length"), number(16))
        .value(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-6));
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd.weight", &[8, 6]),
        ("output_norm.weight", &[8]),
        ("blk.0.attn_norm.weight", &[8]),
        ("blk.0.attn_q.weight", &[8, 8]),
        ("blk.0.attn_k.weight", &[8, 4]),
        ("blk.0.attn_v.weight", &[8, 4]),
        ("blk.0.attn_output.weight", &[8, 8]),
        ("blk.0.ffn_norm.weight", &[8]),
        ("blk.0.ffn_gate.weight", &[8, 64]),
        ("blk.0.ffn_up.weight", &[8, 64]),
        ("blk.0.ffn_down.weight", &[64, 8]),
    ];
    tensors.into_iter().fold(file, |file, (name, shape)| {
        let bytes = vec![0; 4 * shape.iter().product::<u64>() as usize];
        file.tensor(name, shape, TensorType::F32, &bytes)
    })
}

/// Biases that count up from `first`.
fn bias(file: GgufBuilder, part: &str, first: u16, len: u16) -> GgufBuilder {
    let bytes: Vec<u8> =
        (first..first + len).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let name = format!("blk.0.attn_{part}.bias");
    file.tensor(&name, &[u64::from(len)], TensorType::F32, &bytes)
}

fn with_biases(architecture: &str) -> GgufBuilder {
    let file = bias(small(architecture), "q", 0, 8);
    bias(bias(file, "k", 100, 4), "v", 200, 4)
}

/// What `tp_rank` of two ranks loads.
fn load(
    file: &GgufBuilder,
    tp_rank: usize,
) -> Result<Decoder<Listener>, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("small.gguf");
    file.write(&path)?;
    let file = Gguf::open(&path)?;
    let config = ModelConfig::from_gguf(&file)?;
    let shard = Shard::new(&config, tp_rank, 2)?;
    Ok(Decoder::load(&mut Listener::default(), &file, config, shard, |_| {})?)
}

#[test]
fn biases_are_those_of_the_rank_s_heads() -> Result<(), Box<dyn std::error::Error>> {
    for (tp_rank, expected) in [
        (0, [0.0, 1.0, 2.0, 3.0, 100.0, 101.0, 200.0, 201.0]),
        (1, [4.0, 5.0, 6.0, 7.0, 102.0, 103.0, 202.0, 203.0]),
    ] {
        let mut listener = Listener::default();
        load(&with_biases("qwen2"), tp_rank)?.forward(&mut listener, &one_token())?;
        assert_eq!(listener.biases, [expected]);
    }
    let mut listener = Listener::default();
    load(&small("llama"), 0)?.forward(&mut listener, &one_token())?;
    assert_eq!(listener.biases, [[0.0; 0]; 0]);
    Ok(())
}

#[test]
fn what_would_be_left_out_is_refused() {
    let error = |file: &GgufBuilder| {
        let message = load(file, 0).err().expect("a refusal").to_string();
        // The path, which differs from run to run, comes first.
        message.split_once(".gguf").expect("a path").1.to_owned()
    };
    let foreign = |tensor: &str| {
        format!(": tensor {tensor} is not part of the models that this version runs")
    };
    assert_eq!(error(&with_biases("llama")), foreign("blk.0.attn_k.bias"));
    for name in ["blk.0.attn_q_norm.weight", "blk.1.attn_q.weight", "output.bias"] {
        let file = with_biases("qwen2").tensor(name, &[2], TensorType::F32, &[0; 8]);
        assert_eq!(error(&file), foreign(name));
    }
    assert_eq!(error(&small("qwen2")), " has no tensor blk.0.attn_q.bias");
    assert_eq!(
        error(&bias(small("qwen2"), "q", 0, 4)),
        ": tensor blk.0.attn_q.bias is 4, and the model's dimensions ask for 8"
    );
}
