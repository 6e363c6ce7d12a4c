//! Speed of attention alone, of all layers of SmolLM2-135M:
//!
//!     cargo bench -p shardrun-cpu --bench attention [-- (ISA | CACHE TYPE | THREADS | CASE)...]
//!
//! A case is so many sequences, so many new tokens of each, after a context.
//! A figure is the time of all layers' calls, from queries, keys and values as a linear layer gives
//! them to what the next one reads; rates count the multiply-adds of scores and sums that causality
//! leaves, twice, and the bytes of keys and values that are read. The best time adds up each layer's
//! best, which is what an idle machine would show.

use std::{env, time::Instant};

use shardrun_comm::Solo;
use shardrun_cpu::{Activations, CpuBackend, CpuError, CpuOptions, Isa, Kernels, Matrix};
use shardrun_files::{MatrixView, TensorType};
use shardrun_model::{Backend, Batch, CacheShape, CacheType, HeadShard, Rope, RopePairs, Span};

const LAYERS: usize = 30;
const TOKENS_PER_BLOCK: usize = 32;
const BLOCKS: usize = 320;
const HEADS: HeadShard =
    HeadShard { query_heads: 0..9, kv_heads: 0..3, queries_per_kv: 3, head_dim: 64 };
const ROPE: Rope = Rope { theta: 1e5, dims: 64, pairs: RopePairs::Neighbours };
const COLUMNS: usize = (9 + 2 * 3) * 64;
/// Rows that a table of made-up queries, keys and values has.
const ROWS: usize = 512;

/// So many sequences, each with so many new tokens after a context.
#[derive(Clone, Copy)]
struct Case {
    sequences: usize,
    context: usize,
    new: usize,
}

const CASES: [Case; 9] = [
    Case { sequences: 1, context: 0, new: 512 },
    Case { sequences: 4, context: 0, new: 128 },
    Case { sequences: 1, context: 4096, new: 128 },
    Case { sequences: 1, context: 20, new: 1 },
    Case { sequences: 1, context: 150, new: 1 },
    Case { sequences: 1, context: 1000, new: 1 },
    Case { sequences: 1, context: 4000, new: 1 },
    Case { sequences: 8, context: 200, new: 1 },
    Case { sequences: 32, context: 200, new: 1 },
];

impl Case {
    fn name(self) -> String {
        format!("{}x{}@{}", self.sequences, self.new, self.context)
    }
}

fn main() -> Result<(), CpuError> {
    let named: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let isas = chosen(&named, &Isa::ALL, |isa| isa.name().to_owned());
    let types = chosen(&named, &CacheType::ALL, |dtype| dtype.name().to_owned());
    let threads = chosen(&named, &[1usize, 2], |threads| threads.to_string());
    let cases = chosen(&named, &CASES, Case::name);
    for isa in isas {
        let Ok(kernels) = Kernels::new(isa) else { continue };
        if isa == Isa::Scalar && !named.iter().any(|name| name == isa.name()) {
            continue;
        }
        for &threads in &threads {
            for &dtype in &types {
                let mut bench = Bench::new(kernels, threads, dtype)?;
                for case in &cases {
                    bench.report(case)?;
                }
            }
        }
    }
    Ok(())
}

/// Those of `all` that are named, or all if none is.
fn chosen<T: Copy>(named: &[String], all: &[T], name: impl Fn(T) -> String) -> Vec<T> {
    let some: Vec<T> = all.iter().copied().filter(|&one| named.contains(&name(one))).collect();
    if some.is_empty() { all.to_vec() } else { some }
}

struct Bench {
    backend: CpuBackend,
    table: Matrix,
    dtype: CacheType,
    label: String,
}

impl Bench {
    fn new(kernels: Kernels, threads: usize, dtype: CacheType) -> Result<Self, CpuError> {
        let activations = Activations::Int8;
        let options = CpuOptions { threads, kernels, activations, cores: None, spin: true };
        let mut backend = CpuBackend::new(options, Box::new(Solo))?;
        backend.allocate_cache(CacheShape {
            layers: LAYERS,
            kv_heads: HEADS.kv_heads.len(),
            head_dim: HEADS.head_dim,
            blocks: BLOCKS,
            tokens_per_block: TOKENS_PER_BLOCK,
            dtype,
        })?;
        let mut bits = 1u32;
        let value = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((bits >> 8) as f32 / (1 << 23) as f32 - 1.0) * 2.0
        };
        let bytes: Vec<u8> =
            std::iter::repeat_with(value).take(ROWS * COLUMNS).flat_map(f32::to_le_bytes).collect();
        let view = MatrixView::new(TensorType::F32, ROWS, COLUMNS, &bytes).expect("sizes agree");
        let table = backend.pack(&[view])?;
        let label = format!("{:<10} {threads} threads  {dtype:<4}", kernels.isa().name());
        Ok(Self { backend, table, dtype, label })
    }

    fn report(&mut self, case: &Case) -> Result<(), CpuError> {
        let &Case { sequences, context, new } = case;
        self.fill(case)?;
        let batch = batch(sequences, context, new);
        let seen: usize = sequences * (0..new).map(|at| context + at + 1).sum::<usize>();
        let operations = (4 * seen * HEADS.query_heads.len() * HEADS.head_dim * LAYERS) as f64;
        let vector = HEADS.head_dim * self.dtype.element_bytes() + self.dtype.scale_bytes();
        let read =
            (sequences * (context + new) * 2 * HEADS.kv_heads.len() * vector * LAYERS) as f64;
        let repetitions = ((4e9 / operations) as usize).clamp(7, 200);
        let (mut times, mut bests) = (Vec::new(), [f64::MAX; LAYERS]);
        for _ in 0..repetitions {
            let layers = self.layers(&batch)?;
            times.push(layers.iter().sum::<f64>());
            bests = std::array::from_fn(|layer| bests[layer].min(layers[layer]));
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (bests.iter().sum::<f64>(), times[times.len() / 2]);
        println!(
            "{}  {:<10} best {:>8.3} ms  median {:>8.3} ms  {:>6.1} GFLOP/s {:>5.1} GB/s",
            self.label,
            case.name(),
            best * 1e3,
            median * 1e3,
            operations / best / 1e9,
            read / best / 1e9,
        );
        Ok(())
    }

    /// Seconds that attention of each layer takes.
    fn layers(&mut self, batch: &Batch) -> Result<[f64; LAYERS], CpuError> {
        self.backend.begin(batch)?;
        let mut seconds = [0.0; LAYERS];
        for (layer, seconds) in seconds.iter_mut().enumerate() {
            let qkv = self.backend.embed(&self.table, 0)?;
            let start = Instant::now();
            let mixed = self.backend.attention(layer, qkv, &HEADS, &ROPE, None)?;
            *seconds = start.elapsed().as_secs_f64();
            drop(mixed);
        }
        Ok(seconds)
    }

    /// Puts the contexts into the cache.
    fn fill(&mut self, case: &Case) -> Result<(), CpuError> {
        for start in (0..case.context).step_by(ROWS / case.sequences) {
            let new = (case.context - start).min(ROWS / case.sequences);
            self.layers(&batch(case.sequences, start, new))?;
        }
        Ok(())
    }
}

/// Sequences whose blocks lie between each other.
fn batch(sequences: usize, context: usize, new: usize) -> Batch {
    let blocks = (context + new).div_ceil(TOKENS_PER_BLOCK);
    let rows = sequences * new;
    let span = |at: usize| Span {
        rows: at * new..(at + 1) * new,
        position: context,
        blocks: at * blocks..(at + 1) * blocks,
    };
    let block = |at: usize| (at % blocks * sequences + at / blocks) as u32;
    Batch {
        tokens: (0..rows).map(|row| (row * 97 % ROWS) as u32).collect(),
        spans: (0..sequences).map(span).collect(),
        blocks: (0..blocks * sequences).map(block).collect(),
        sampled: vec![],
    }
}
