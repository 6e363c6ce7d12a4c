//! What goes to a client piece by piece.

use std::vec::IntoIter;

use super::super::message::{FromEngine, LogitsPiece};
use super::super::{PIECE_TOKENS, PIECE_VALUES};
use crate::{IterationStats, KvEvent, Logits, Output, OutputStream, RequestId, Tokens};

/// A source of messages of limited length, whose last is [`FromEngine::End`] or [`FromEngine::Taken`].
pub(super) enum Feed {
    Request(RequestFeed),
    Iterations { call: u64, left: IntoIter<IterationStats> },
    KvEvents { call: u64, left: IntoIter<KvEvent> },
}

/// A request's outputs.
pub(super) struct RequestFeed {
    id: RequestId,
    outputs: OutputStream,
    /// The output that is being sent.
    left: Left,
}

/// What is left of an output.
enum Left {
    Nothing,
    Tokens(Tokens),
    Logits {
        logits: Logits,
        /// Values that were sent.
        sent: usize,
    },
}

impl Feed {
    pub(super) fn request(id: RequestId, outputs: OutputStream) -> Self {
        Self::Request(RequestFeed { id, outputs, left: Left::Nothing })
    }

    pub(super) fn iterations(call: u64, stats: Vec<IterationStats>) -> Self {
        Self::Iterations { call, left: stats.into_iter() }
    }

    pub(super) fn kv_events(call: u64, events: Vec<KvEvent>) -> Self {
        Self::KvEvents { call, left: events.into_iter() }
    }

    /// Waits for the next message.
    pub(super) async fn turn(mut self) -> (Self, FromEngine) {
        let message = match &mut self {
            Self::Request(request) => request.next().await,
            Self::Iterations { call, left } => match left.next() {
                Some(stats) => FromEngine::Iteration { call: *call, iteration: stats.into() },
                None => FromEngine::Taken { call: *call },
            },
            Self::KvEvents { call, left } => match left.next() {
                Some(event) => FromEngine::KvEvent { call: *call, event },
                None => FromEngine::Taken { call: *call },
            },
        };
        (self, message)
    }
}

impl RequestFeed {
    async fn next(&mut self) -> FromEngine {
        loop {
            if let Some(message) = self.piece() {
                return message;
            }
            match self.outputs.next().await {
                Some(Output::Tokens(tokens)) => self.left = Left::Tokens(tokens),
                Some(Output::Logits(logits)) => self.left = Left::Logits { logits, sent: 0 },
                Some(Output::Finished(finished)) => return FromEngine::Finished(self.id, finished),
                None => return FromEngine::End(self.id),
            }
        }
    }

    /// The next piece of what is left of an output.
    fn piece(&mut self) -> Option<FromEngine> {
        match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::Nothing => None,
            Left::Tokens(mut tokens) => {
                if tokens.tokens.len() > PIECE_TOKENS {
                    self.left = Left::Tokens(Tokens {
                        sequence: tokens.sequence,
                        index: tokens.index + PIECE_TOKENS as u32,
                        tokens: tokens.tokens.split_off(PIECE_TOKENS),
                        log_probs: tokens
                            .log_probs
                            .split_off(PIECE_TOKENS.min(tokens.log_probs.len())),
                    });
                }
                Some(FromEngine::Tokens(self.id, tokens))
            }
            Left::Logits { logits, sent } => {
                let left = logits.values.get(sent..).unwrap_or_default();
                if left.is_empty() {
                    return None;
                }
                let values = left[..left.len().min(PIECE_VALUES)].to_vec();
                let of = logits.of;
                let len = logits.values.len() as u64;
                self.left = Left::Logits { sent: sent + values.len(), logits };
                Some(FromEngine::Logits(self.id, LogitsPiece { of, len, values }))
            }
        }
    }
}
