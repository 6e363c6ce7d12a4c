//! Speed of linear layers by themselves, for every type of weights:
//!
//!     cargo bench -p shardrun-cpu --bench kernels [-- FILTER]
//!
//! One matrix that stays in the second-level cache, one thread, the instruction set that
//! `SHARDRUN_BENCH_ISA` names or the best. Items are multiplications and additions of the product alone:
//! what quantising the activations costs is in the time. `limits` has the peaks to compare with.

use std::env;

use divan::{Bencher, counter::ItemsCount};
use shardrun_comm::Solo;
use shardrun_cpu::{Activations, CpuBackend, CpuOptions, Isa, Kernels, Operand, Vector};
use shardrun_files::{MatrixView, TensorType};
use shardrun_model::{Backend, Batch, CacheShape, CacheType, Span};

const OUTPUTS: usize = 1536;
const INPUTS: usize = 768;
const ROWS: [usize; 6] = [1, 4, 8, 16, 32, 256];

fn main() {
    divan::main();
}

#[divan::bench(args = ROWS, consts = [2, 3, 6, 7, 8, 12, 13, 14])]
fn int8<const TYPE: u32>(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, TYPE, rows, Activations::Int8);
}

#[divan::bench(args = ROWS, consts = [1, 2, 3, 6, 8, 12, 14, 30])]
fn bfloat16<const TYPE: u32>(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, TYPE, rows, Activations::Bfloat16);
}

#[divan::bench(args = ROWS, consts = [0, 1, 3, 8])]
fn float32<const TYPE: u32>(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, TYPE, rows, Activations::Float32);
}

/// Times `rows` rows by a matrix of the type that ggml numbers `id`.
fn product(bencher: Bencher<'_, '_>, id: u32, rows: usize, activations: Activations) {
    let types = TensorType::ALL.into_iter();
    let tensor_type = types.into_iter().find(|t| t.ggml_id() == id).expect("a type");
    let isa = env::var("SHARDRUN_BENCH_ISA").ok().map(|name| name.parse().expect("a set"));
    let kernels = Kernels::new(isa.unwrap_or_else(Isa::detect)).expect("runs here");
    let options = CpuOptions { threads: 1, kernels, activations, cores: None, spin: true };
    let mut backend = CpuBackend::new(options, Box::new(Solo)).expect("one thread");
    let bytes = vec![0x11; tensor_type.bytes(OUTPUTS * INPUTS)];
    let view = MatrixView::new(tensor_type, OUTPUTS, INPUTS, &bytes).expect("sizes agree");
    let matrix = backend.pack(&[view]).expect("room for it");
    let gain = backend.vector(&[1.0; INPUTS]).expect("room for it");
    let x = operand(&mut backend, rows, &gain);
    bencher
        .counter(ItemsCount::new(2 * rows * INPUTS * OUTPUTS))
        .bench_local(|| backend.linear(&x, &matrix).expect("room for products"));
}

/// Some rows of activations.
fn operand(backend: &mut CpuBackend, rows: usize, gain: &Vector) -> Operand {
    let values = (0..rows * INPUTS).map(|at| (at % 29) as f32 - 14.0);
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let table = MatrixView::new(TensorType::F32, rows, INPUTS, &bytes).expect("sizes agree");
    let mut float = CpuBackend::new(
        CpuOptions {
            threads: 1,
            kernels: Kernels::detect(),
            activations: Activations::Float32,
            cores: None,
            spin: true,
        },
        Box::new(Solo),
    )
    .expect("one thread");
    let table = float.pack(&[table]).expect("room for it");
    let blocks = rows.div_ceil(16);
    let shape = CacheShape {
        layers: 1,
        kv_heads: 1,
        head_dim: 2,
        blocks,
        tokens_per_block: 16,
        dtype: CacheType::F32,
    };
    float.allocate_cache(shape).expect("room for it");
    let batch = Batch {
        tokens: (0..rows as u32).collect(),
        spans: vec![Span { rows: 0..rows, position: 0, blocks: 0..blocks }],
        blocks: (0..blocks as u32).collect(),
        sampled: Vec::new(),
    };
    float.begin(&batch).expect("fits the cache");
    let x = float.embed(&table, 0).expect("room for it");
    backend.rms_norm(&x, gain, 1e-5).expect("room for it")
}
