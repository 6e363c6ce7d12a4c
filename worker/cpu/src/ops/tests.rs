//! The operations through the backend, against plain computations in float64.

use std::ops::Range;

use shardrun_comm::{CommError, Group, Solo};
use shardrun_files::TensorType;
use shardrun_model::{
    Backend, Batch, BlockCopy, CacheShape, CacheType, HeadShard, Rope, RopePairs, Span,
};

use crate::{
    Activations, CpuBackend, CpuError, CpuOptions, Isa, Kernels, Matrix, Operand, Tensor, ops,
    testing::{Random, Stored, TYPES, kernels_that_run},
};

mod attention;
mod best;
mod bias;
mod copy;

/// A cache that no test here uses, but `begin` asks for.
const CACHE: CacheShape = CacheShape {
    layers: 1,
    kv_heads: 1,
    head_dim: 2,
    blocks: 64,
    tokens_per_block: 16,
    dtype: CacheType::F32,
};

fn options(kernels: Kernels, threads: usize) -> CpuOptions {
    let activations = Activations::Float32;
    CpuOptions { threads, kernels, activations, cores: None, spin: false }
}

/// What these kernels multiply with.
fn activations_of(kernels: Kernels) -> impl Iterator<Item = Activations> {
    let pairs = kernels.has_pairs().then_some(Activations::Bfloat16);
    [Activations::Int8, Activations::Float32].into_iter().chain(pairs)
}

fn backend(kernels: Kernels, threads: usize) -> CpuBackend {
    let options = options(kernels, threads);
    let mut backend = CpuBackend::new(options, Box::new(Solo)).unwrap();
    backend.allocate_cache(CACHE).unwrap();
    backend
}

/// One sequence of these tokens, all sampled.
fn batch(tokens: &[u32]) -> Batch {
    let rows = tokens.len();
    let blocks = rows.div_ceil(CACHE.tokens_per_block);
    Batch {
        tokens: tokens.to_vec(),
        spans: vec![Span { rows: 0..rows, position: 0, blocks: 0..blocks }],
        blocks: (0..blocks as u32).collect(),
        sampled: (0..rows as u32).collect(),
    }
}

/// A tensor of any values, by way of an embedding.
fn tensor(backend: &mut CpuBackend, values: &[f32], columns: usize) -> Tensor {
    let table = Stored::floats(values, columns);
    let table = backend.pack(&[table.view()]).unwrap();
    let rows = (values.len() / columns) as u32;
    backend.begin(&batch(&(0..rows).collect::<Vec<_>>())).unwrap();
    backend.embed(&table, 0).unwrap()
}

/// What is in an operand, by way of a product with the identity, which is exact.
fn values(backend: &mut CpuBackend, operand: &Operand) -> Vec<f32> {
    let size = operand.columns();
    let mut identity = vec![0.0; size * size];
    identity.iter_mut().step_by(size + 1).for_each(|one| *one = 1.0);
    let identity = backend.pack(&[Stored::floats(&identity, size).view()]).unwrap();
    backend.linear(operand, &identity).unwrap().as_slice().to_vec()
}

fn assert_all_near(got: &[f32], want: impl IntoIterator<Item = f64>, tolerance: f64) {
    let want: Vec<f64> = want.into_iter().collect();
    assert_eq!(got.len(), want.len());
    for (at, (&got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(got) - want).abs() <= tolerance, "element {at} is {got}, not {want}");
    }
}

#[test]
fn a_token_outside_the_shard_embeds_as_zeros() {
    let table = Stored::random(TensorType::Q8_0, 10, 32, 1);
    let mut backend = backend(Kernels::detect(), 1);
    let packed = backend.pack(&[table.view()]).unwrap();
    backend.begin(&batch(&[99, 100, 109, 110, u32::MAX])).unwrap();
    let rows = backend.embed(&packed, 100).unwrap();
    assert_eq!(rows.row(1), table.row(0));
    assert_eq!(rows.row(2), table.row(9));
    for outside in [0, 3, 4] {
        assert_eq!(rows.row(outside), [0.0; 32]);
    }
}

#[test]
fn a_norm_divides_by_the_root_of_the_mean_square() {
    // Enough for two threads.
    let (rows, columns, epsilon) = (40, 477, 0.5);
    let x = Random(3).values(rows * columns);
    let gain = Random(4).values(columns);
    let mut backend = backend(Kernels::detect(), 2);
    let tensor = tensor(&mut backend, &x, columns);
    let packed = backend.vector(&gain).unwrap();
    let normed = backend.rms_norm(&tensor, &packed, epsilon).unwrap();
    let expected = x.chunks(columns).flat_map(|row| {
        let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
        let root = (squares / columns as f64 + f64::from(epsilon)).sqrt();
        row.iter().zip(&gain).map(move |(&x, &gain)| f64::from(x) / root * f64::from(gain))
    });
    assert_all_near(&values(&mut backend, &normed), expected, 1e-6);
}

#[test]
fn a_gated_layer_multiplies_silu_of_the_gates_with_the_ups() {
    // Enough for two threads; columns that are no whole groups.
    for (rows, columns) in [(9, 300), (40, 41)] {
        let x = Random(5).values(rows * 64);
        let [gate, up] = [6, 7].map(|seed| {
            let values = Random(seed).values(columns * 64);
            values.iter().map(|value| value / 4.0).collect::<Vec<_>>()
        });
        let products = |x: &[f32], weights: &[f32]| -> Vec<f64> {
            let weights = weights.chunks(64);
            let terms = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum();
            weights.map(terms).collect()
        };
        for kernels in kernels_that_run() {
            let mut backend = backend(kernels, 2);
            let parts = [Stored::floats(&gate, 64), Stored::floats(&up, 64)];
            let gate_up = backend.pack(&[parts[0].view(), parts[1].view()]).unwrap();
            let tensor = tensor(&mut backend, &x, 64);
            let operand = ops::operand(&mut backend.machine, &tensor).unwrap();
            let gated = backend.gated_linear(&operand, &gate_up).unwrap();
            let expected = x.chunks(64).flat_map(|row| {
                let gates = products(row, &gate).into_iter();
                let ups = products(row, &up);
                gates.zip(ups).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
            });
            assert_all_near(&values(&mut backend, &gated), expected, 1e-5);
        }
    }
}

/// Embedding, norm, product, gated MLP and product of tokens `0..rows`, in batches of `at_once`.
fn feed_forward(
    backend: &mut CpuBackend,
    weights: &[Matrix; 3],
    rows: u32,
    at_once: usize,
) -> Vec<u32> {
    let tokens: Vec<u32> = (0..rows).collect();
    let gain = backend.vector(&Random(9).values(weights[0].inputs())).unwrap();
    let mut bits = Vec::new();
    for tokens in tokens.chunks(at_once) {
        backend.begin(&batch(tokens)).unwrap();
        let x = backend.embed(&weights[0], 0).unwrap();
        let h = backend.rms_norm(&x, &gain, 1e-5).unwrap();
        let h = backend.gated_linear(&h, &weights[1]).unwrap();
        let down = backend.linear(&h, &weights[2]).unwrap();
        bits.extend(down.as_slice().iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn a_row_has_the_same_bits_in_every_batch_and_on_any_number_of_threads() {
    const ROWS: u32 = 41;
    for tensor_type in TYPES {
        // Two parts of different types, and outputs that fill no group.
        let table = Stored::random(TensorType::F32, ROWS as usize, 256, 1);
        let gate = Stored::random(tensor_type, 256, 256, 2);
        let up = Stored::random(TensorType::Q8_0, 256, 256, 3);
        let down = Stored::random(tensor_type, 93, 256, 4);
        let run = |kernels: Kernels, activations, threads: usize, at_once: &[usize]| {
            let options = CpuOptions { activations, ..options(kernels, threads) };
            let mut backend = CpuBackend::new(options, Box::new(Solo)).unwrap();
            backend.allocate_cache(CACHE).unwrap();
            let weights = [
                backend.pack(&[table.view()]).unwrap(),
                backend.pack(&[gate.view(), up.view()]).unwrap(),
                backend.pack(&[down.view()]).unwrap(),
            ];
            let runs = at_once
                .iter()
                .map(|&at_once| (at_once, feed_forward(&mut backend, &weights, ROWS, at_once)));
            runs.collect::<Vec<_>>()
        };
        for kernels in kernels_that_run() {
            for activations in activations_of(kernels) {
                let alone = run(kernels, activations, 1, &[1]).remove(0).1;
                for (threads, at_once) in [(1, [3, 41]), (2, [5, 16]), (3, [17, 33])] {
                    for (at_once, bits) in run(kernels, activations, threads, &at_once) {
                        assert!(
                            bits == alone,
                            "{kernels:?} {tensor_type}: {at_once} rows on {threads} threads"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn sampled_rows_are_those_of_the_batch_in_its_order() {
    let mut backend = backend(Kernels::detect(), 1);
    let x: Vec<f32> = (0..12).map(|x| x as f32).collect();
    let rows = tensor(&mut backend, &x, 3);
    let sampled = Batch { sampled: vec![1, 3], ..batch(&[0; 4]) };
    backend.begin(&sampled).unwrap();
    let rows = backend.sampled_rows(rows).unwrap();
    assert_eq!(backend.read(&rows).unwrap(), [3.0, 4.0, 5.0, 9.0, 10.0, 11.0]);
}

#[test]
fn a_layer_adds_to_the_residual_the_same_in_any_batch() {
    let (inputs, outputs) = (64, 300);
    let x = Random(2).values(70 * inputs);
    let residual = Random(3).values(70 * outputs);
    for kernels in kernels_that_run() {
        for activations in activations_of(kernels) {
            for tensor_type in [TensorType::F32, TensorType::Q4_1] {
                let options = CpuOptions { activations, ..options(kernels, 2) };
                let mut backend = CpuBackend::new(options, Box::new(Solo)).unwrap();
                backend.allocate_cache(CACHE).unwrap();
                let stored = Stored::random(tensor_type, outputs, inputs, 1);
                let w = backend.pack(&[stored.view()]).unwrap();
                let mut sums = |at_once: usize| -> Vec<f32> {
                    let rows = x.chunks(at_once * inputs).zip(residual.chunks(at_once * outputs));
                    let sums = rows.flat_map(|(x, residual)| {
                        let x = tensor(&mut backend, x, inputs);
                        let x = ops::operand(&mut backend.machine, &x).unwrap();
                        let residual = tensor(&mut backend, residual, outputs);
                        let sum = backend.linear_all_reduce_add(residual, &x, &w).unwrap();
                        sum.as_slice().to_vec()
                    });
                    sums.collect()
                };
                let together = sums(70);
                assert_eq!(together, sums(1));
                assert_eq!(together, sums(23));
                let expected =
                    x.chunks(inputs).zip(residual.chunks(outputs)).flat_map(|(x, residual)| {
                        let stored = &stored;
                        (residual.iter().enumerate()).map(move |(output, &residual)| {
                            let weights = stored.row(output);
                            let terms = weights.iter().zip(x).map(|(w, x)| f64::from(w * x));
                            f64::from(residual) + terms.sum::<f64>()
                        })
                    });
                assert_all_near(&together, expected, 0.1);
            }
        }
    }
}

#[test]
fn a_backend_can_be_made_on_one_thread_and_used_on_another() {
    let mut backend = backend(Kernels::detect(), 2);
    let user = std::thread::spawn(move || backend.begin(&batch(&[1, 2, 3])).is_ok());
    assert!(user.join().unwrap());
}

/// A group of two whose other rank has the same values.
struct Twins {
    rank: usize,
}

impl Group for Twins {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        2
    }

    fn all_reduce(&mut self, data: &mut [f32]) -> Result<(), CommError> {
        data.iter_mut().for_each(|x| *x *= 2.0);
        Ok(())
    }

    fn gather_columns(
        &mut self,
        part: &[f32],
        columns: &[Range<usize>],
        whole: &mut [f32],
    ) -> Result<(), CommError> {
        if self.rank == 0 {
            for (whole, part) in whole.chunks_mut(4).zip(part.chunks(2)) {
                whole[columns[0].clone()].copy_from_slice(part);
                whole[columns[1].clone()].copy_from_slice(part);
            }
        }
        Ok(())
    }
}

#[test]
fn collectives_go_over_the_group() {
    let group = |rank| {
        let options = options(Kernels::detect(), 1);
        let mut backend = CpuBackend::new(options, Box::new(Twins { rank })).unwrap();
        backend.allocate_cache(CACHE).unwrap();
        backend
    };
    let mut leader = group(0);
    let x = tensor(&mut leader, &[1.0, 2.0, 3.0, 4.0], 2);
    let residual = tensor(&mut leader, &[10.0, 20.0, 30.0, 40.0], 2);
    let x = leader.all_reduce(x).unwrap();
    assert_eq!(x.as_slice(), [2.0, 4.0, 6.0, 8.0]);
    let same = Stored::floats(&[1.0, 0.0, 0.0, 1.0], 2);
    let same = leader.pack(&[same.view()]).unwrap();
    let x = ops::operand(&mut leader.machine, &x).unwrap();
    let x = leader.linear_all_reduce_add(residual, &x, &same).unwrap();
    assert_eq!(x.as_slice(), [14.0, 28.0, 42.0, 56.0]);
    let whole = leader.gather_columns(x, &[0..2, 2..4]).unwrap().unwrap();
    assert_eq!(whole.as_slice(), [14.0, 28.0, 14.0, 28.0, 42.0, 56.0, 42.0, 56.0]);

    let mut follower = group(1);
    let x = tensor(&mut follower, &[1.0, 2.0], 2);
    assert!(follower.gather_columns(x, &[0..2, 2..4]).unwrap().is_none());
}

#[test]
fn a_batch_needs_a_cache_and_must_fit_it() {
    let options = options(Kernels::detect(), 1);
    let mut backend = CpuBackend::new(options, Box::new(Solo)).unwrap();
    assert!(matches!(backend.begin(&batch(&[1])), Err(CpuError::NoCache)));
    assert!(matches!(backend.copy_blocks(&[]), Err(CpuError::NoCache)));
    backend.allocate_cache(CacheShape { blocks: 1, ..CACHE }).unwrap();
    assert!(backend.begin(&batch(&[1; 16])).is_ok());
    assert!(matches!(backend.begin(&batch(&[1; 17])), Err(CpuError::Batch(_))));
}

#[test]
fn an_empty_batch_goes_through() {
    let mut backend = backend(Kernels::detect(), 2);
    let table = backend.pack(&[Stored::random(TensorType::Q4_1, 8, 32, 1).view()]).unwrap();
    let gain = backend.vector(&[1.0; 32]).unwrap();
    backend.begin(&Batch::default()).unwrap();
    let x = backend.embed(&table, 0).unwrap();
    let h = backend.rms_norm(&x, &gain, 1e-5).unwrap();
    let qkv = backend.linear(&h, &table).unwrap();
    let heads = HeadShard { query_heads: 0..2, kv_heads: 0..1, queries_per_kv: 2, head_dim: 2 };
    let rope = Rope { theta: 1e4, dims: 2, pairs: RopePairs::Neighbours };
    let mixed = backend.attention(0, qkv, &heads, &rope, None).unwrap();
    assert_eq!((mixed.rows(), mixed.columns()), (0, 4));
    let x = backend.sampled_rows(x).unwrap();
    assert!(backend.read(&x).unwrap().is_empty());
}

#[test]
fn an_instruction_set_that_is_missing_is_refused() {
    for isa in Isa::ALL {
        if let Err(error) = Kernels::new(isa) {
            let best = Isa::detect();
            let expected =
                format!("this CPU has no {isa}; the best kernels that run here are '{best}'");
            assert_eq!(error.to_string(), expected);
        }
    }
}
