use shardrun_files::{Gguf, TensorType, Value, testing::GgufBuilder};

use super::*;
use crate::RopePairs;

/// A model of seven layers with these windows, 0 for none.
fn model(windows: &[usize]) -> ModelConfig {
    ModelConfig {
        layers: 7,
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
        attention_windows: windows.iter().map(|&tokens| NonZeroUsize::new(tokens)).collect(),
    }
}

fn of_layers(windows: &[usize]) -> Vec<usize> {
    let model = model(windows);
    let window = |layer| model.attention_window(layer).map_or(0, NonZeroUsize::get);
    (0..model.layers).map(window).collect()
}

#[test]
fn windows_are_repeated_over_the_layers() {
    assert_eq!(of_layers(&[]), [0; 7]);
    assert_eq!(of_layers(&[9]), [9; 7]);
    assert_eq!(of_layers(&[4, 0, 6]), [4, 0, 6, 4, 0, 6, 4]);
}

#[test]
fn the_widest_window_is_that_of_a_layer_that_is_there() {
    let widest = |windows: &[usize]| model(windows).widest_attention_window();
    assert_eq!(widest(&[]), None);
    assert_eq!(widest(&[4, 6, 5]), NonZeroUsize::new(6));
    assert_eq!(widest(&[4, 0, 6]), None);
    // The eighth would be an eighth layer's.
    assert_eq!(widest(&[1, 2, 3, 4, 3, 2, 1, 0]), NonZeroUsize::new(4));
}

/// The least that a file says, with Qwen2.5's numbers.
fn file(architecture: &str) -> GgufBuilder {
    let key = |name: &str| format!("{architecture}.{name}");
    GgufBuilder::new()
        .string("general.architecture", architecture)
        .value(&key("block_count"), Value::U32(24))
        .value(&key("context_length"), Value::U32(32768))
        .value(&key("embedding_length"), Value::U32(896))
        .value(&key("feed_forward_length"), Value::U32(4864))
        .value(&key("attention.head_count"), Value::U32(14))
        .value(&key("attention.head_count_kv"), Value::U32(2))
        .value(&key("rope.freq_base"), Value::F32(1e6))
        .value(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-6))
        .tensor("token_embd.weight", &[1, 5], TensorType::F32, &[0; 20])
}

fn read(builder: &GgufBuilder) -> Result<ModelConfig, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.gguf");
    builder.write(&path).unwrap();
    ModelConfig::from_gguf(&Gguf::open(&path).unwrap())
}

fn refusal(builder: &GgufBuilder) -> String {
    let message = read(builder).unwrap_err().to_string();
    // The path, which differs from run to run, comes first.
    message.split_once(".gguf").unwrap().1.trim_start_matches(": ").to_owned()
}

#[test]
fn an_architecture_is_read_with_what_is_its_own() {
    let qwen2 = read(&file("qwen2")).unwrap();
    let expected = ModelConfig {
        layers: 24,
        hidden: 896,
        ffn: 4864,
        query_heads: 14,
        kv_heads: 2,
        head_dim: 64,
        context_len: 32768,
        vocab: 5,
        norm_epsilon: 1e-6,
        qkv_bias: true,
        rope: Rope { theta: 1e6, dims: 64, pairs: RopePairs::Halves },
        attention_windows: Vec::new(),
    };
    assert_eq!(qwen2, expected);
    let llama = read(&file("llama")).unwrap();
    let rope = Rope { pairs: RopePairs::Neighbours, ..expected.rope };
    assert_eq!(llama, ModelConfig { qkv_bias: false, rope, ..expected });
}

#[test]
fn what_a_file_leaves_out_has_a_default() {
    let mut least = file("llama");
    assert!(least.remove("llama.attention.head_count_kv") && least.remove("llama.rope.freq_base"));
    let config = read(&least).unwrap();
    assert_eq!((config.kv_heads, config.rope.theta), (14, 1e4));
    let wide = least
        .value("llama.attention.key_length", Value::U32(80))
        .value("llama.rope.dimension_count", Value::U32(40));
    let config = read(&wide).unwrap();
    assert_eq!((config.head_dim, config.rope.dims), (80, 40));
}

#[test]
fn heads_that_are_too_large_are_refused_however_that_is_said() {
    let said = file("llama").value("llama.attention.key_length", Value::U32(1025));
    assert_eq!(refusal(&said), "llama.attention.key_length is 1025; 1 to 1024 can be run");
    let mut derived = file("llama");
    assert!(derived.remove("llama.embedding_length"));
    let derived = derived.value("llama.embedding_length", Value::U32(14 * 1040));
    let expected = "llama.embedding_length is 14560; heads of up to 1024 elements can be run";
    assert_eq!(refusal(&derived), expected);
}

#[test]
fn other_architectures_are_refused_by_name() {
    assert_eq!(
        refusal(&file("gemma3")),
        "general.architecture is \"gemma3\"; this version runs \"llama\" and \"qwen2\""
    );
}

#[test]
fn what_is_not_computed_here_is_refused() {
    let with = |key: &str, value| file("qwen2").value(&format!("qwen2.{key}"), value);
    let yarn = Value::String("yarn".into());
    for (key, value, says) in [
        ("rope.scaling.type", yarn, "\"yarn\"; this version runs models without rope scaling"),
        ("rope.scaling.factor", Value::F32(4.0), "4; this version runs models where it is 0"),
        ("rope.scale_linear", Value::F32(2.0), "2; this version runs models where it is 0"),
        (
            "rope.scaling.attn_factor",
            Value::F32(0.5),
            "0.5; this version runs models where it is 1",
        ),
        ("attention.scale", Value::F32(0.125), "0.125; this version runs models where it is 0"),
        ("expert_count", Value::U32(8), "8; this version runs models where it is 0"),
        (
            "expert_count",
            Value::String("two".into()),
            "a string; this version runs models where it is 0",
        ),
        (
            "attention.causal",
            Value::Bool(false),
            "false; this version runs models that generate text",
        ),
        (
            "attention.sliding_window",
            Value::U32(4096),
            "4096; this version runs models that see all 32768 tokens",
        ),
    ] {
        assert_eq!(refusal(&with(key, value)), format!("qwen2.{key} is {says}"));
    }
    for (key, value) in [
        ("rope.scaling.type", Value::String("none".into())),
        ("rope.scaling.factor", Value::F32(1.0)),
        ("attention.causal", Value::Bool(true)),
        ("expert_count", Value::U32(0)),
        ("attention.sliding_window", Value::U32(32768)),
    ] {
        assert_eq!(read(&with(key, value)).unwrap(), read(&file("qwen2")).unwrap(), "{key}");
    }
    let scaled = file("llama").tensor("rope_freqs.weight", &[1], TensorType::F32, &[0; 4]);
    assert_eq!(
        refusal(&scaled),
        "rope_freqs.weight is there; this version runs models without rope scaling"
    );
}

#[test]
fn dimensions_that_make_no_model_are_refused() {
    let with = |name: &str, value| {
        let key = format!("qwen2.{name}");
        let mut file = file("qwen2");
        file.remove(&key);
        refusal(&file.value(&key, value))
    };
    for (key, value, says) in [
        ("block_count", 0, "0; 1 to 1024 can be run"),
        ("attention.head_count_kv", 4, "4; it must divide the 14 query heads"),
        ("attention.head_count", 15, "15; it must divide the 896 elements of a token"),
        ("attention.value_length", 32, "32; heads of keys and values must both have 64 elements"),
        (
            "rope.dimension_count",
            66,
            "66; an even number up to the 64 elements of a head can be run",
        ),
    ] {
        assert_eq!(with(key, Value::U32(value)), format!("qwen2.{key} is {says}"));
    }
    assert_eq!(
        with("rope.freq_base", Value::F32(0.0)),
        "qwen2.rope.freq_base is 0; it must be positive"
    );
    assert_eq!(
        with("attention.layer_norm_rms_epsilon", Value::F32(-1.0)),
        "qwen2.attention.layer_norm_rms_epsilon is -1; it must be positive or zero"
    );
}
