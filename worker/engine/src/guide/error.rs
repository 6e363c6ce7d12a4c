//! What can be wrong with a guide, or go wrong while one is followed.

use std::{sync::Arc, time::Duration};

use shardrun_wire::RequestId;
use thiserror::Error;

/// Reasons of the parsing library are cut after so many bytes.
const MAX_REASON_BYTES: usize = 600;

/// A guide that can't be used, or a sequence that can't be guided any further.
#[derive(Clone, Debug, Error)]
pub enum GuideError {
    /// A guide that is too long.
    #[error("guide of type {kind}: {bytes} bytes, expected at most {limit}")]
    TooLong {
        /// The guide's type, as clients name it.
        kind: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        limit: usize,
    },
    /// A guide that is not valid, not supported, or too costly.
    #[error("guide of type {kind}: {reason}")]
    Refused {
        /// The guide's type, as clients name it.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An EBNF grammar that is not valid.
    #[error("guide of type ebnf_grammar: line {line}: {problem}")]
    Grammar {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The model's tokenizer names no token that ends a text, so that no guided text could end.
    #[error("guided decoding needs a token that ends a text; the model's tokenizer names none")]
    NoEnd,
    /// Nothing can be parsed with this vocabulary.
    #[error("guided decoding can't use the model's vocabulary: {reason}")]
    Vocabulary {
        /// What is wrong with it.
        reason: String,
    },
    /// A token that the guide does not allow.
    #[error("token {token} does not go on with the guided text: {reason}")]
    Token {
        /// The token.
        token: u32,
        /// What the parser says.
        reason: String,
    },
    /// There is no mask for the next token: the guide has become too complex, or nothing in the
    /// vocabulary goes on with the text.
    #[error("no mask for the next token: {reason}")]
    Mask {
        /// What the parser says.
        reason: String,
    },
    /// A mask was asked for, or a copy, of a sequence that was not started.
    #[error("sequence {sequence} of request {} is not guided", request.0)]
    NotStarted {
        /// The request.
        request: RequestId,
        /// Which of its sequences.
        sequence: u32,
    },
    /// The thread that computes masks did not answer in time.
    #[error("waited {} ms for a mask of the thread `guide`", waited.as_millis())]
    Late {
        /// How long was waited.
        waited: Duration,
    },
    /// The thread that computes masks has ended.
    #[error("the thread `guide`, which computes masks, has ended")]
    WorkerGone,
    /// A thread could not be started.
    #[error("cannot start the thread `{name}`")]
    Thread {
        /// What it is called.
        name: &'static str,
        /// The system's reason.
        source: Arc<std::io::Error>,
    },
}

/// Why there is no mask where the language and the vocabulary have nothing in common.
pub(super) const NOTHING_FOLLOWS: &str = "no token of the vocabulary goes on with the text";

/// A message of the parsing library without its dumps of state, and cut to a bearable length.
pub(super) fn reason(message: &str) -> String {
    const DUMPS: [&str; 4] = ["\n<backtrace>", "\n<state>", "\n<grammar>", "\n<non-verbose/>"];
    let end = DUMPS.iter().filter_map(|dump| message.find(dump)).min().unwrap_or(message.len());
    let message = match message[..end].trim() {
        // The name of an inner state, where others come with a sentence.
        "NoExtensionBias" => NOTHING_FOLLOWS,
        message => message,
    };
    if message.len() <= MAX_REASON_BYTES {
        return message.to_owned();
    }
    let mut end = MAX_REASON_BYTES;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_and_hold_no_dumps() {
        assert_eq!(reason("bad \n<state>\nx\n</state><grammar>y</grammar>"), "bad");
        assert_eq!(reason("NoExtensionBias\n<non-verbose/>"), NOTHING_FOLLOWS);
        assert_eq!(reason("panic: no\n<backtrace>\n0: main\n</backtrace>"), "panic: no");
        let long = reason(&"é".repeat(10_000));
        assert!(long.len() <= MAX_REASON_BYTES + 3 && long.ends_with("é..."), "{long}");
    }
}
