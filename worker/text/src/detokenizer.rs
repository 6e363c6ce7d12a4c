//! Text as its tokens arrive: a character whose bytes are spread over several tokens is held back
//! until it is whole.

use std::sync::Arc;

use crate::Tokenizer;

/// Turns a stream of tokens into text.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// The first bytes of a character whose last ones have not come: three at most.
    pending: Vec<u8>,
}

impl Detokenizer {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, pending: Vec::new() }
    }

    /// Takes the next token, and gives the text that no later token can change: possibly none.
    #[must_use]
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend(self.tokenizer.bytes(id, self.skip_special));
        let mut text = String::with_capacity(self.pending.len());
        let mut rest = self.pending.as_slice();
        let held = loop {
            let error = match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break 0;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(str::from_utf8(valid).expect("the bytes before the error"));
            match error.error_len() {
                Some(invalid) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[invalid..];
                }
                // The end came before the character's did.
                None => break after.len(),
            }
        };
        self.pending.drain(..self.pending.len() - held);
        text
    }

    /// The rest: a character that never became whole is U+FFFD.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
