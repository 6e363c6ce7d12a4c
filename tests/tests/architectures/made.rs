//! Made-up models that hold every type of weights: golden/make_tiny_golden.py says by which rule, and
//! makes the same ones.

use std::path::{Path, PathBuf};

use half::f16;
use shardrun_files::testing::GgufBuilder;
use shardrun_files::{MatrixView, TensorType, Value};

const HIDDEN: usize = 256;
const FFN: usize = 512;
const VOCAB: usize = 48;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 64;

/// How the matrices of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// In as many types as there are.
    Quantised,
    /// The same numbers as float32.
    Dequantised,
}

/// Writes the model of `architecture` into `folder`.
///
/// # Errors
/// The system's.
pub(crate) fn write(folder: &Path, architecture: &str, stored: Stored) -> std::io::Result<PathBuf> {
    let key = |name: &str| format!("{architecture}.{name}");
    let number = |n: usize| Value::U32(n as u32);
    let mut file = GgufBuilder::new()
        .string("general.architecture", architecture)
        .value(&key("block_count"), number(2))
        .value(&key("context_length"), number(64))
        .value(&key("embedding_length"), number(HIDDEN))
        .value(&key("feed_forward_length"), number(FFN))
        .value(&key("attention.head_count"), number(HEADS))
        .value(&key("attention.head_count_kv"), number(KV_HEADS))
        .value(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-6))
        .value(&key("rope.freq_base"), Value::F32(1e6));
    for (seed, (name, rows, columns, tensor_type)) in tensors().into_iter().enumerate() {
        // Llama has no biases, and this one no head of its own either.
        let qwen2_only = name.ends_with(".bias") || name == "output.weight";
        if qwen2_only && architecture == "llama" {
            continue;
        }
        let shape = [columns as u64, rows as u64];
        let shape = if rows == 1 { &shape[..1] } else { &shape[..] };
        let bytes = bytes(seed as u32, &name, tensor_type, rows * columns);
        file = match stored {
            Stored::Quantised => file.tensor(&name, shape, tensor_type, &bytes),
            Stored::Dequantised => {
                let floats = dequantised(tensor_type, rows, columns, &bytes);
                file.tensor(&name, shape, TensorType::F32, &floats)
            }
        };
    }
    let path = folder.join(format!("{architecture}-{stored:?}.gguf"));
    file.write(&path)?;
    Ok(path)
}

/// Name, rows, columns and type of every tensor; one row is a vector.
fn tensors() -> Vec<(String, usize, usize, TensorType)> {
    use TensorType::{BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    let (queries, keys) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut tensors = vec![("token_embd.weight".to_owned(), VOCAB, HIDDEN, Q8_0)];
    for (index, [q, k, v, o, gate, up, down]) in
        [[Q4_K, Q5_K, Q6_K, Q5_K, Q4_1, Q4_0, Q6_K], [Q5_0, Q5_1, Q8_0, Q6_K, F16, BF16, Q4_K]]
            .into_iter()
            .enumerate()
    {
        let parts = [
            ("attn_norm.weight", 1, HIDDEN, F32),
            ("attn_q.weight", queries, HIDDEN, q),
            ("attn_q.bias", 1, queries, F32),
            ("attn_k.weight", keys, HIDDEN, k),
            ("attn_k.bias", 1, keys, F32),
            ("attn_v.weight", keys, HIDDEN, v),
            ("attn_v.bias", 1, keys, F32),
            ("attn_output.weight", HIDDEN, queries, o),
            ("ffn_norm.weight", 1, HIDDEN, F32),
            ("ffn_gate.weight", FFN, HIDDEN, gate),
            ("ffn_up.weight", FFN, HIDDEN, up),
            ("ffn_down.weight", HIDDEN, FFN, down),
        ];
        tensors.extend(parts.map(|(part, rows, columns, tensor_type)| {
            (format!("blk.{index}.{part}"), rows, columns, tensor_type)
        }));
    }
    tensors.push(("output_norm.weight".to_owned(), 1, HIDDEN, F32));
    tensors.push(("output.weight".to_owned(), VOCAB, HIDDEN, Q6_K));
    tensors
}

/// Where a block's f16 numbers are, and their values.
fn halves(tensor_type: TensorType) -> &'static [(usize, f32)] {
    match tensor_type {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => &[],
        TensorType::Q4_0 => &[(0, 1.0 / 64.0)],
        TensorType::Q4_1 => &[(0, 1.0 / 64.0), (2, -1.0 / 8.0)],
        TensorType::Q5_0 => &[(0, 1.0 / 128.0)],
        TensorType::Q5_1 => &[(0, 1.0 / 128.0), (2, -1.0 / 8.0)],
        TensorType::Q8_0 => &[(0, 1.0 / 1024.0)],
        TensorType::Q4_K => &[(0, 1.0 / 2048.0), (2, 1.0 / 256.0)],
        TensorType::Q5_K => &[(0, 1.0 / 4096.0), (2, 1.0 / 256.0)],
        TensorType::Q6_K => &[(208, 1.0 / 32768.0)],
    }
}

fn bytes(seed: u32, name: &str, tensor_type: TensorType, len: usize) -> Vec<u8> {
    let mut x = seed;
    let stream = std::iter::repeat_with(move || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    });
    if tensor_type.block_len() == 1 {
        let (add, times) = match name.rsplit_once('.') {
            Some((part, "weight")) if part.ends_with("norm") => (1.0, 1.0),
            Some((_, "bias")) => (0.0, 8.0),
            _ => (0.0, 1.0),
        };
        let number = |byte: u8| add + (f32::from(byte) - 128.0) / 1024.0 * times;
        // The upper bytes of a float32 are a bfloat16, and these numbers have no more bits.
        return stream
            .take(len)
            .map(number)
            .flat_map(|x| match tensor_type {
                TensorType::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                TensorType::BF16 => x.to_le_bytes()[2..].to_vec(),
                _ => x.to_le_bytes().to_vec(),
            })
            .collect();
    }
    let mut bytes: Vec<u8> = stream.take(tensor_type.bytes(len)).collect();
    for block in bytes.chunks_exact_mut(tensor_type.block_bytes()) {
        for &(at, value) in halves(tensor_type) {
            block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    }
    bytes
}

fn dequantised(tensor_type: TensorType, rows: usize, columns: usize, bytes: &[u8]) -> Vec<u8> {
    let matrix = MatrixView::new(tensor_type, rows, columns, bytes)
        .expect("as many bytes as its type takes");
    let mut floats = vec![0.0; rows * columns];
    for (row, floats) in floats.chunks_exact_mut(columns).enumerate() {
        matrix.dequantise_row(row, floats);
    }
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}
