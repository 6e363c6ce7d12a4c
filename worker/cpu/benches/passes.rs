//! Speed of a model of SmolLM2-135M's shapes with made-up weights:
//!
//!     cargo bench -p shardrun-cpu --bench passes [-- [products | passes] [bf16 | f32] ISA... ROWS...]
//!
//! Without a word for them, activations are int8, the instruction set is the fastest, and products are of 1
//! to 512 rows.
//!
//! `products` is every matrix of the model once for a number of rows, with norms and gated MLPs but
//! without attention, the head for all rows. `decode` and `prefill` are whole passes with attention:
//! one new token of so many sequences after a context each, and a prompt as long as the context with one
//! row sampled, for each type of cache. Rates are of the median; the best time is what an idle
//! machine would show. Below stands what a pass spent on each operation, of all layers, in the mean.

use std::{cell::RefCell, env, time::Instant};

use shardrun_comm::Solo;
use shardrun_cpu::{
    Activations, CpuBackend, CpuError, CpuOptions, Isa, Kernels, Matrix, Operand, Tensor, Vector,
};
use shardrun_files::{MatrixView, TensorType};
use shardrun_model::{Backend, Batch, CacheShape, CacheType, HeadShard, Rope, RopePairs, Span};

const HIDDEN: usize = 576;
const FFN: usize = 1536;
const VOCAB: usize = 49152;
const LAYERS: usize = 30;
const HEAD_DIM: usize = 64;
const QUERY_HEADS: usize = 9;
const KV_HEADS: usize = 3;
const CONTEXTS: [usize; 2] = [128, 1024];
const SEQUENCES: [usize; 3] = [1, 8, 32];
const TOKENS_PER_BLOCK: usize = 16;

/// What a pass spends its time on, in all layers.
#[derive(Clone, Copy)]
enum Operation {
    Norm,
    Qkv,
    Attention,
    Output,
    GateUp,
    Down,
    Head,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::Norm,
        Self::Qkv,
        Self::Attention,
        Self::Output,
        Self::GateUp,
        Self::Down,
        Self::Head,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Norm => "norm",
            Self::Qkv => "qkv",
            Self::Attention => "attention",
            Self::Output => "output",
            Self::GateUp => "gate-up",
            Self::Down => "down",
            Self::Head => "head",
        }
    }
}

/// Seconds by operation.
type Spent = [f64; Operation::ALL.len()];

struct Layer {
    qkv: Matrix,
    o: Matrix,
    gate_up: Matrix,
    down: Matrix,
}

struct Model {
    head: Matrix,
    layers: Vec<Layer>,
    gain: Vector,
    heads: HeadShard,
    rope: Rope,
    /// Since it was last looked at.
    spent: RefCell<Spent>,
}

fn main() -> Result<(), CpuError> {
    let named: Vec<Isa> = env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let isas = if named.is_empty() { vec![Isa::detect()] } else { named };
    let wanted = |part: &str| {
        let parts = ["products", "passes"];
        env::args().all(|arg| !parts.contains(&&*arg)) || env::args().any(|arg| arg == part)
    };
    for isa in isas {
        for threads in [1, 2] {
            if wanted("products") {
                products(isa, threads)?;
            }
            if wanted("passes") {
                passes(isa, threads)?;
            }
        }
    }
    Ok(())
}

fn products(isa: Isa, threads: usize) -> Result<(), CpuError> {
    let mut backend = backend(isa, threads)?;
    backend.allocate_cache(cache(CacheType::Bf16))?;
    let model = Model::new(&mut backend)?;
    let named: Vec<usize> = env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let all = if named.is_empty() { vec![1, 2, 4, 8, 16, 32, 64, 512] } else { named };
    for rows in all {
        let batch = one_span(rows, 0, rows <= 64);
        let times = time(rows, &model, || model.products(&mut backend, &batch))?;
        report(isa, threads, "products", rows, times);
    }
    Ok(())
}

fn passes(isa: Isa, threads: usize) -> Result<(), CpuError> {
    let mut backend = backend(isa, threads)?;
    backend.allocate_cache(cache(CacheType::Bf16))?;
    let model = Model::new(&mut backend)?;
    for dtype in CacheType::ALL {
        backend.allocate_cache(cache(dtype))?;
        for context in CONTEXTS {
            let batch = one_span(context, 0, false);
            let times = time(context, &model, || model.pass(&mut backend, &batch))?;
            report(isa, threads, &format!("prefill {dtype}"), context, times);
            for sequences in SEQUENCES {
                let batch = decoding(sequences, context);
                let times = time(sequences, &model, || model.pass(&mut backend, &batch))?;
                report(isa, threads, &format!("decode {dtype} {context}"), sequences, times);
            }
        }
    }
    Ok(())
}

fn backend(isa: Isa, threads: usize) -> Result<CpuBackend, CpuError> {
    let kernels = Kernels::new(isa)?;
    let said = |word: &str| env::args().any(|arg| arg == word);
    let activations = match (said("bf16"), said("f32")) {
        (true, _) => Activations::Bfloat16,
        (_, true) => Activations::Float32,
        _ => Activations::Int8,
    };
    let options = CpuOptions { threads, kernels, activations, cores: None, spin: true };
    CpuBackend::new(options, Box::new(Solo))
}

fn report(isa: Isa, threads: usize, what: &str, rows: usize, times: Times) {
    let Times { best, median, spent } = times;
    let (rate, best_rate) = (rows as f64 / median, rows as f64 / best);
    println!(
        "{:<10} {threads} threads  {what:<17} {rows:>4} rows  {:>8.2} ms {rate:>7.1} rows/s  \
         best {:>8.2} ms {best_rate:>7.1} rows/s",
        isa.name(),
        median * 1e3,
        best * 1e3,
    );
    let of = |operation: Operation| {
        format!("{} {:.2} ms", operation.name(), spent[operation as usize] * 1e3)
    };
    println!("    {}", Operation::ALL.map(of).join(", "));
}

fn cache(dtype: CacheType) -> CacheShape {
    CacheShape {
        layers: LAYERS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        blocks: SEQUENCES[2] * (CONTEXTS[1] + 1).div_ceil(TOKENS_PER_BLOCK),
        tokens_per_block: TOKENS_PER_BLOCK,
        dtype,
    }
}

/// Seconds of one run.
struct Times {
    best: f64,
    median: f64,
    /// In the mean.
    spent: Spent,
}

/// Times `run` again and again for a few seconds.
fn time(
    rows: usize,
    model: &Model,
    mut run: impl FnMut() -> Result<(), CpuError>,
) -> Result<Times, CpuError> {
    run()?;
    model.spent.take();
    let mut times = Vec::new();
    for _ in 0..(300 / rows).clamp(3, 150) {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let spent = model.spent.take().map(|seconds| seconds / times.len() as f64);
    Ok(Times { best: times[0], median: times[times.len() / 2], spent })
}

fn one_span(rows: usize, position: usize, sample_all: bool) -> Batch {
    let blocks = (position + rows).div_ceil(TOKENS_PER_BLOCK);
    let last = rows as u32 - 1;
    Batch {
        tokens: (0..rows as u32).map(|row| row * 97 % VOCAB as u32).collect(),
        spans: vec![Span { rows: 0..rows, position, blocks: 0..blocks }],
        blocks: (0..blocks as u32).collect(),
        sampled: if sample_all { (0..=last).collect() } else { vec![last] },
    }
}

/// One new token of each of so many sequences, after `position` others.
fn decoding(sequences: usize, position: usize) -> Batch {
    let blocks = (position + 1).div_ceil(TOKENS_PER_BLOCK);
    let span = |at| Span { rows: at..at + 1, position, blocks: at * blocks..(at + 1) * blocks };
    let rows = sequences as u32;
    Batch {
        tokens: (0..rows).map(|row| row * 97 % VOCAB as u32).collect(),
        spans: (0..sequences).map(span).collect(),
        blocks: (0..(sequences * blocks) as u32).collect(),
        sampled: (0..rows).collect(),
    }
}

impl Model {
    fn new(backend: &mut CpuBackend) -> Result<Self, CpuError> {
        let mut matrix = |tensor_type, rows, columns| {
            let bytes = made_up(tensor_type, rows * columns);
            let view = MatrixView::new(tensor_type, rows, columns, &bytes).expect("sizes agree");
            backend.pack(&[view])
        };
        let head = matrix(TensorType::Q8_0, VOCAB, HIDDEN)?;
        let mut layers = Vec::new();
        for _ in 0..LAYERS {
            let q4_1 = TensorType::Q4_1;
            layers.push(Layer {
                qkv: matrix(q4_1, (QUERY_HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN)?,
                o: matrix(q4_1, HIDDEN, QUERY_HEADS * HEAD_DIM)?,
                gate_up: matrix(q4_1, 2 * FFN, HIDDEN)?,
                down: matrix(q4_1, HIDDEN, FFN)?,
            });
        }
        let heads = HeadShard {
            query_heads: 0..QUERY_HEADS,
            kv_heads: 0..KV_HEADS,
            queries_per_kv: QUERY_HEADS / KV_HEADS,
            head_dim: HEAD_DIM,
        };
        let gain = backend.vector(&[1.0; HIDDEN])?;
        Ok(Self {
            head,
            layers,
            gain,
            heads,
            rope: Rope { theta: 1e5, dims: HEAD_DIM, pairs: RopePairs::Neighbours },
            spent: RefCell::default(),
        })
    }

    fn products(&self, backend: &mut CpuBackend, batch: &Batch) -> Result<(), CpuError> {
        self.run(backend, batch, |_, _, _, h| Ok(h))
    }

    fn pass(&self, backend: &mut CpuBackend, batch: &Batch) -> Result<(), CpuError> {
        self.run(backend, batch, |backend, layer, qkv, _| {
            backend.attention(layer, qkv, &self.heads, &self.rope, None)
        })
    }

    /// One pass, with `mix` between the two matrices of attention.
    fn run(
        &self,
        backend: &mut CpuBackend,
        batch: &Batch,
        mix: impl Fn(&mut CpuBackend, usize, Tensor, Operand) -> Result<Operand, CpuError>,
    ) -> Result<(), CpuError> {
        use Operation::{Attention, Down, GateUp, Head, Norm, Output, Qkv};
        backend.begin(batch)?;
        let mut x = backend.embed(&self.head, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let h = self.on(Norm, || backend.rms_norm(&x, &self.gain, 1e-5))?;
            let qkv = self.on(Qkv, || backend.linear(&h, &layer.qkv))?;
            let mixed = self.on(Attention, || mix(backend, index, qkv, h))?;
            x = self.on(Output, || backend.linear_all_reduce_add(x, &mixed, &layer.o))?;
            let h = self.on(Norm, || backend.rms_norm(&x, &self.gain, 1e-5))?;
            let h = self.on(GateUp, || backend.gated_linear(&h, &layer.gate_up))?;
            x = self.on(Down, || backend.linear_all_reduce_add(x, &h, &layer.down))?;
        }
        let x = backend.sampled_rows(x)?;
        let h = backend.rms_norm(&x, &self.gain, 1e-5)?;
        let mut best = Vec::with_capacity(batch.sampled.len());
        let columns = 0..VOCAB;
        let columns = std::slice::from_ref(&columns);
        self.on(Head, || backend.best_columns(&h, &self.head, columns, &mut best))?;
        assert_eq!(best.len(), batch.sampled.len());
        Ok(())
    }

    /// Runs a part of a pass and notes how long it took.
    fn on<T>(&self, operation: Operation, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = run();
        self.spent.borrow_mut()[operation as usize] += start.elapsed().as_secs_f64();
        result
    }
}

/// Blocks with small scales, so that activations stay in range through all layers.
fn made_up(tensor_type: TensorType, len: usize) -> Vec<u8> {
    let mut bits = 1u32;
    let mut byte = || {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (bits >> 24) as u8
    };
    // As f16: 2^-9, and -7.5 times that; 2^-12 for eight bits.
    let scales: &[u8] = match tensor_type {
        TensorType::Q4_1 => &[0x00, 0x18, 0x80, 0xa3],
        _ => &[0x00, 0x0c],
    };
    let quants = tensor_type.block_bytes() - scales.len();
    let mut bytes = Vec::with_capacity(tensor_type.bytes(len));
    for _ in 0..len / tensor_type.block_len() {
        bytes.extend_from_slice(scales);
        bytes.extend((0..quants).map(|_| byte()));
    }
    bytes
}
