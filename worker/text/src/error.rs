//! What can be wrong with a model's tokenizer or template, or with a conversation.

use std::{error::Error, path::PathBuf};

use shardrun_files::FileError;
use thiserror::Error;

/// A tokenizer or chat template that cannot be used, or a text that it does not take.
#[derive(Debug, Error)]
pub enum TextError {
    /// The file lacks something, or has it in another type.
    #[error(transparent)]
    File(#[from] FileError),
    /// A kind of tokenizer that is not supported.
    #[error("{path}: {key} is {found:?}; supported: {supported}")]
    Unsupported {
        /// The model file.
        path: PathBuf,
        /// The metadata key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The values that are supported.
        supported: &'static str,
    },
    /// A vocabulary of no tokens, or of more than ids can count.
    #[error("{path}: tokenizer.ggml.tokens holds {found} tokens, expected 1 to {}", u32::MAX)]
    VocabularySize {
        /// The model file.
        path: PathBuf,
        /// How many tokens it has.
        found: usize,
    },
    /// Types for more or fewer tokens than there are.
    #[error("{path}: tokenizer.ggml.token_type has {types} entries for {tokens} tokens")]
    TokenTypes {
        /// The model file.
        path: PathBuf,
        /// Entries.
        types: usize,
        /// Tokens.
        tokens: usize,
    },
    /// A merge that the vocabulary does not allow.
    #[error(
        "{path}: tokenizer.ggml.merges[{index}] is {merge:?}, \
         expected two tokens of the vocabulary that make a third"
    )]
    Merge {
        /// The model file.
        path: PathBuf,
        /// Which merge.
        index: usize,
        /// As it is written.
        merge: String,
    },
    /// A token that the metadata names, but the vocabulary lacks.
    #[error("{path}: {key} is {id}, expected less than the {limit} tokens of the vocabulary")]
    TokenId {
        /// The model file.
        path: PathBuf,
        /// The metadata key.
        key: &'static str,
        /// Its value.
        id: u32,
        /// The vocabulary's size.
        limit: u32,
    },
    /// The tokenizer could not be built from otherwise sound metadata.
    #[error("cannot build the tokenizer of {path}")]
    Build {
        /// The model file.
        path: PathBuf,
        /// The library's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A text could not be tokenised.
    #[error("cannot tokenise {bytes} bytes of text")]
    Encode {
        /// The text's length.
        bytes: usize,
        /// The library's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The chat template is not valid.
    #[error("{path}: tokenizer.chat_template does not compile")]
    TemplateSyntax {
        /// The model file.
        path: PathBuf,
        /// What is wrong, and on which line.
        source: minijinja::Error,
    },
    /// The chat template refuses the conversation (`raise_exception`): its author's message.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// The chat template failed on the conversation, or took too much work.
    #[error("the model's chat template failed")]
    TemplateFailed {
        /// What went wrong, and on which line.
        source: minijinja::Error,
    },
}
