//! The model's text side, as the gateway needs it.

use std::error::Error;
use std::sync::Arc;

use shardrun_text::{Detokenizer, Tokenizer};

/// Turns text into tokens and back.
pub trait TextModel: Send + Sync + 'static {
    /// The tokens of a prompt, with those that the model wants at its beginning.
    ///
    /// # Errors
    /// If the text cannot be tokenised.
    fn encode(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>>;

    /// The tokens of a word wherever it stands: nothing is put before them.
    ///
    /// # Errors
    /// If the text cannot be tokenised.
    fn encode_word(&self, word: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>>;

    /// The token that ends an answer, unless a request names another.
    fn end_id(&self) -> Option<u32>;

    /// Turns one request's tokens into text as they come; special tokens give none.
    fn detokenizer(self: Arc<Self>) -> Box<dyn Detokenize>;
}

/// Text from tokens that come one by one.
pub trait Detokenize: Send {
    /// Takes the next token and gives the text that is final now: possibly none, while a character
    /// lacks bytes.
    fn push(&mut self, token: u32) -> String;

    /// What is left after the last token.
    fn finish(self: Box<Self>) -> String;
}

impl TextModel for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> {
        Ok(Tokenizer::encode(self, text, true)?)
    }

    fn encode_word(&self, word: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> {
        Ok(Tokenizer::encode(self, word, false)?)
    }

    fn end_id(&self) -> Option<u32> {
        Tokenizer::end_id(self)
    }

    fn detokenizer(self: Arc<Self>) -> Box<dyn Detokenize> {
        Box::new(Tokenizer::detokenizer(&self, true))
    }
}

impl Detokenize for Detokenizer {
    fn push(&mut self, token: u32) -> String {
        Detokenizer::push(self, token)
    }

    fn finish(self: Box<Self>) -> String {
        Detokenizer::finish(*self)
    }
}
