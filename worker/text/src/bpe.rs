//! Byte-level BPE (Sennrich et al., 2016; Radford et al., 2019): a word's bytes, merged pair by
//! pair.

use shardrun_files::Gguf;
use tokenizers::{
    Model,
    models::bpe::{BPE, Merges, Vocab},
};

use crate::{TextError, alphabet};

/// Turns words into tokens.
#[derive(Debug)]
pub(crate) struct BytePairs {
    model: BPE,
}

impl BytePairs {
    pub(crate) fn from_gguf(file: &Gguf) -> Result<Self, TextError> {
        let tokens = file.require_strings("tokenizer.ggml.tokens")?;
        let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
        let merges = merges(file, &vocab)?;
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .build()
            .map_err(|source| TextError::Build { path: file.path().into(), source })?;
        Ok(Self { model })
    }

    /// Adds the tokens of one word to `ids`. A byte that the vocabulary has no token for is left
    /// out, as Hugging Face's tokenizers and llama.cpp do.
    pub(crate) fn encode(
        &self,
        word: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let letters: String = word.bytes().map(|byte| alphabet::CHARS[usize::from(byte)]).collect();
        ids.extend(self.model.tokenize(&letters)?.iter().map(|token| token.id));
        Ok(())
    }
}

/// The merges, best first. Each is checked here, since `tokenizers` panics on one whose result is
/// longer than every token.
fn merges(file: &Gguf, vocab: &Vocab) -> Result<Merges, TextError> {
    let lines = file.require_strings("tokenizer.ggml.merges")?;
    let mut joined = String::new();
    let mut checked = |line: &str| {
        let (left, right) = line.split_once(' ')?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let known = [left, right, &joined].into_iter().all(|token| vocab.contains_key(token));
        known.then(|| (left.to_owned(), right.to_owned()))
    };
    let merge = |(index, line): (usize, &String)| {
        checked(line).ok_or_else(|| TextError::Merge {
            path: file.path().into(),
            index,
            merge: line.clone(),
        })
    };
    lines.iter().enumerate().map(merge).collect()
}
