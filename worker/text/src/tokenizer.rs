//! A model's tokenizer: texts to tokens, and tokens to texts.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use shardrun_files::Gguf;

use crate::{
    ChatTemplate, Detokenizer, TextError,
    bpe::BytePairs,
    split::Splitter,
    vocabulary::{TokenKind, Vocabulary},
};

/// Converts between texts and a model's tokens.
///
/// Encoding takes time linear in the text, save within one word, where it is n log n; it uses no
/// stack in proportion to either.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    added: AddedTokens,
    splitter: Splitter,
    pairs: BytePairs,
    /// The token that begins every text, if the model was trained so.
    begin: Option<u32>,
    end: Option<u32>,
    pad: Option<u32>,
    chat_template: Option<ChatTemplate>,
}

impl Tokenizer {
    /// The tokenizer that a model file describes: byte-level BPE, cut into words as
    /// `tokenizer.ggml.pre` says, and the chat template.
    ///
    /// # Errors
    /// If the file's tokenizer is of another kind, incomplete, or at odds with itself.
    pub fn from_gguf(file: &Gguf) -> Result<Self, TextError> {
        let unsupported = |key, found: &str, supported| TextError::Unsupported {
            path: file.path().into(),
            key,
            found: found.to_owned(),
            supported,
        };
        let model = file.require_str("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(unsupported("tokenizer.ggml.model", model, "gpt2"));
        }
        let pre = file.require_str("tokenizer.ggml.pre")?;
        let splitter = Splitter::named(pre)
            .ok_or_else(|| unsupported("tokenizer.ggml.pre", pre, Splitter::SUPPORTED))?;

        let vocabulary = Vocabulary::from_gguf(file)?;
        let token = |key| match file.optional_u32(key)? {
            Some(id) if id >= vocabulary.size() => Err(TextError::TokenId {
                path: file.path().into(),
                key,
                id,
                limit: vocabulary.size(),
            }),
            id => Ok(id),
        };
        let begin = token("tokenizer.ggml.bos_token_id")?;
        let end = token("tokenizer.ggml.eos_token_id")?;
        let pad = token("tokenizer.ggml.padding_token_id")?;
        let add_begin = file.optional_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
        if add_begin {
            file.require_u32("tokenizer.ggml.bos_token_id")?;
        }

        let spelling = |id: Option<u32>| {
            id.map(|id| String::from_utf8_lossy(vocabulary.bytes(id)).into_owned())
        };
        let chat_template = file
            .optional_str("tokenizer.chat_template")?
            .map(|source| ChatTemplate::compile(source, spelling(begin), spelling(end)))
            .transpose()
            .map_err(|source| TextError::TemplateSyntax { path: file.path().into(), source })?;

        Ok(Self {
            added: AddedTokens::new(&vocabulary)
                .map_err(|source| TextError::Build { path: file.path().into(), source })?,
            pairs: BytePairs::from_gguf(file)?,
            begin: begin.filter(|_| add_begin),
            vocabulary,
            splitter,
            end,
            pad,
            chat_template,
        })
    }

    /// The tokens of `text`, in which special tokens that are spelled out are themselves. With
    /// `add_special`, the token that begins every text goes first, if the model has one.
    ///
    /// Bytes that the vocabulary cannot spell (rare control characters, in some models) are left
    /// out.
    ///
    /// # Errors
    /// If the text can't be tokenised.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        let mut ids: Vec<u32> = self.begin.filter(|_| add_special).into_iter().collect();
        self.encode_into(text, &mut ids)
            .map_err(|source| TextError::Encode { bytes: text.len(), source })?;
        Ok(ids)
    }

    fn encode_into(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut at = 0;
        for found in self.added.pattern.find_iter(text) {
            self.encode_words(&text[at..found.start()], ids)?;
            ids.push(self.added.ids[found.pattern().as_usize()]);
            at = found.end();
        }
        self.encode_words(&text[at..], ids)
    }

    fn encode_words(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let text = self.splitter.normalised(text);
        self.splitter.split(&text, |word| self.pairs.encode(word, ids))
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD; ids beyond the vocabulary are
    /// nothing. With `skip_special`, so are control tokens.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let bytes: Vec<u8> =
            ids.iter().flat_map(|&id| self.bytes(id, skip_special)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A stream of tokens to text, which together is what [`Self::decode`] gives.
    #[must_use]
    pub fn detokenizer(self: &Arc<Self>, skip_special: bool) -> Detokenizer {
        Detokenizer::new(Arc::clone(self), skip_special)
    }

    /// What a token adds to the text: nothing, for an id beyond the vocabulary. With
    /// `skip_special`, so do control tokens.
    #[must_use]
    pub fn bytes(&self, id: u32, skip_special: bool) -> &[u8] {
        if skip_special && self.vocabulary.kind(id) == TokenKind::Control {
            return &[];
        }
        self.vocabulary.bytes(id)
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.vocabulary.size()
    }

    /// The token that ends a text or a turn.
    #[must_use]
    pub fn end_id(&self) -> Option<u32> {
        self.end
    }

    /// The token that fills up rows of a batch.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// How the model wants conversations written, if the file says.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }
}

/// Tokens that are found in a text by their spelling, before it is cut into words.
#[derive(Debug)]
struct AddedTokens {
    pattern: AhoCorasick,
    /// The token of each of the pattern's alternatives.
    ids: Vec<u32>,
}

impl AddedTokens {
    fn new(vocabulary: &Vocabulary) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let ids: Vec<u32> = vocabulary.added().collect();
        let pattern = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(ids.iter().map(|&id| vocabulary.bytes(id)))?;
        Ok(Self { pattern, ids })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
