//! A model's tokens: what each is in bytes, and which of them are not ordinary text.

use shardrun_files::Gguf;

use crate::{TextError, alphabet};

/// The bytes of every token, and their kinds.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// All tokens' bytes, one after the other.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A piece of text, which BPE makes.
    Text,
    /// Structure, which is not part of the text: ends, roles.
    Control,
    /// Text that stays in one piece, whatever BPE would make of it.
    UserDefined,
    /// Nothing: it makes the vocabulary as large as the model's matrices are.
    Padding,
}

impl TokenKind {
    /// From ggml's `llama_token_type`.
    fn from_ggml(kind: u32) -> Self {
        match kind {
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Padding,
            _ => Self::Text,
        }
    }
}

impl Vocabulary {
    pub(crate) fn from_gguf(file: &Gguf) -> Result<Self, TextError> {
        let tokens = file.require_strings("tokenizer.ggml.tokens")?;
        if tokens.is_empty() || u32::try_from(tokens.len()).is_err() {
            let path = file.path().into();
            return Err(TextError::VocabularySize { path, found: tokens.len() });
        }
        let kinds = match file.optional_u32s("tokenizer.ggml.token_type")? {
            Some(types) => types.into_iter().map(TokenKind::from_ggml).collect(),
            None => vec![TokenKind::Text; tokens.len()],
        };
        if kinds.len() != tokens.len() {
            return Err(TextError::TokenTypes {
                path: file.path().into(),
                types: kinds.len(),
                tokens: tokens.len(),
            });
        }
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(tokens.len());
        for (token, kind) in tokens.iter().zip(&kinds) {
            if *kind == TokenKind::Padding {
                ends.push(bytes.len());
                continue;
            }
            let start = bytes.len();
            // As Hugging Face does, a token with other letters than the alphabet's is taken as it
            // is written.
            let spelled = *kind == TokenKind::Text
                && token
                    .chars()
                    .all(|letter| alphabet::byte(letter).map(|b| bytes.push(b)).is_some());
            if !spelled {
                bytes.truncate(start);
                bytes.extend(token.as_bytes());
            }
            ends.push(bytes.len());
        }
        Ok(Self { bytes, ends, kinds })
    }

    /// How many tokens there are.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("checked when it was read")
    }

    /// The bytes of a token; none for an id beyond the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let index = id as usize;
        match self.ends.get(index) {
            Some(&end) => {
                &self.bytes[index.checked_sub(1).map_or(0, |before| self.ends[before])..end]
            }
            None => &[],
        }
    }

    /// What a token is for; an id beyond the vocabulary is no text.
    pub(crate) fn kind(&self, id: u32) -> TokenKind {
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Control)
    }

    /// The tokens that are found in a text before BPE sees it.
    pub(crate) fn added(&self) -> impl Iterator<Item = u32> {
        (0..self.size())
            .filter(|&id| self.kind(id) != TokenKind::Text && !self.bytes(id).is_empty())
    }
}
