//! What the tests share: a small model file, the real one, and golden files.

use std::{fs::File, path::Path};

use serde::de::DeserializeOwned;
use shardrun_files::{Array, Gguf, Value, testing::GgufBuilder};

use crate::{TextError, Tokenizer, alphabet};

/// Ids of the small vocabulary's first tokens.
pub(crate) const END: u32 = 0;
pub(crate) const BEGIN: u32 = 1;
pub(crate) const WORD: u32 = 2;

/// A vocabulary of two control tokens, a user's word, all bytes, and three merges.
pub(crate) fn small() -> GgufBuilder {
    let mut tokens: Vec<String> = ["<end>", "<begin>", "un cut"].map(str::to_owned).into();
    tokens.extend(alphabet::CHARS.map(String::from));
    tokens.extend(["he", "ll", "Ġhe"].map(str::to_owned));
    let mut types = vec![1; tokens.len()];
    types[END as usize] = 3;
    types[BEGIN as usize] = 3;
    types[WORD as usize] = 4;
    GgufBuilder::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", tokens)
        .value("tokenizer.ggml.token_type", Value::Array(Array::I32(types)))
        .strings("tokenizer.ggml.merges", ["h e", "l l", "Ġ he"])
        .value("tokenizer.ggml.bos_token_id", Value::U32(BEGIN))
        .value("tokenizer.ggml.eos_token_id", Value::U32(END))
}

/// The tokenizer of a file that is built for a test.
pub(crate) fn tokenizer(builder: &GgufBuilder) -> Result<Tokenizer, TextError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.gguf");
    builder.write(&path).unwrap();
    Tokenizer::from_gguf(&Gguf::open(&path).unwrap())
}

/// The tokenizers of the real models, each with the name of its golden file `kind`. One that is not at
/// hand is left out, said aloud.
pub(crate) fn model_tokenizers(kind: &str) -> Vec<(Tokenizer, String)> {
    let models = [("SHARDRUN_TEST_MODEL", ""), ("SHARDRUN_TEST_QWEN", "qwen2-")];
    let at_hand = models.into_iter().filter_map(|(variable, prefix)| {
        let Some(path) = std::env::var_os(variable) else {
            eprintln!("skipped: {variable} names no model file");
            return None;
        };
        let file = Gguf::open(Path::new(&path)).unwrap();
        Some((Tokenizer::from_gguf(&file).unwrap(), format!("{prefix}{kind}")))
    });
    at_hand.collect()
}

/// What an independent implementation gave: see tests/golden/make_golden.py.
pub(crate) fn golden<T: DeserializeOwned>(name: &str) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    serde_json::from_reader(File::open(folder.join(name)).unwrap()).unwrap()
}
