//! Text to tokens and back: tokenizers, detokenising streams, chat templates, all built from what
//! a model's GGUF file says about itself.
//!
//! Nothing here knows requests, sampling or stop sequences.

mod alphabet;
mod bpe;
mod chat;
mod detokenizer;
mod error;
mod split;
mod tokenizer;
mod vocabulary;

pub use chat::{ChatMessage, ChatTemplate};
pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use tokenizer::Tokenizer;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
