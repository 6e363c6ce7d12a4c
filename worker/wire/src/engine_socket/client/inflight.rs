//! What comes back for one request, checked against it.

use thiserror::Error;

use super::super::message::LogitsPiece;
use crate::{EngineLimits, Finished, Logits, LogitsOf, OutputSink, Request, Tokens};

/// A request whose outputs come.
pub(super) struct Inflight {
    sink: OutputSink,
    sequences: u32,
    log_probs: bool,
    /// Logits that came in part.
    part: Option<Part>,
    /// Values that may still come.
    values_left: u64,
}

struct Part {
    of: LogitsOf,
    len: u64,
    values: Vec<f32>,
}

/// Why an output doesn't fit its request.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Tokens before these are missing.
    #[error("sequence {sequence} goes on at token {index}, expected was {expected}")]
    Gap { sequence: u32, expected: u32, index: u32 },
    /// The request has no such sequence.
    #[error("sequence {sequence} of {sequences}")]
    NoSuchSequence { sequence: u32, sequences: u32 },
    /// Not one log probability per token, or some that nobody wanted.
    #[error("{log_probs} log probabilities with {tokens} tokens")]
    LogProbs { tokens: usize, log_probs: usize },
    /// Pieces of different logits are mixed, or longer than the whole.
    #[error("pieces of logits that don't fit together")]
    MixedLogits,
    /// More logits than a request may ask for.
    #[error("{values} more logits, at most {left} are allowed")]
    TooManyLogits { values: u64, left: u64 },
}

impl Inflight {
    pub(super) fn new(sink: OutputSink, request: &Request, limits: Option<EngineLimits>) -> Self {
        let values =
            |limits: EngineLimits| u64::from(limits.max_logits_rows) * u64::from(limits.vocab_size);
        Self {
            sink,
            sequences: request.search.sequences(),
            log_probs: request.wanted.log_probs,
            part: None,
            values_left: limits.map_or(0, values),
        }
    }

    /// Tokens; those that are there already are dropped.
    pub(super) fn tokens(&mut self, tokens: &Tokens) -> Result<(), Misfit> {
        let Tokens { sequence, index, ref tokens, ref log_probs } = *tokens;
        self.check_sequence(sequence)?;
        let expected_log_probs = if self.log_probs { tokens.len() } else { 0 };
        if log_probs.len() != expected_log_probs {
            let (tokens, log_probs) = (tokens.len(), log_probs.len());
            return Err(Misfit::LogProbs { tokens, log_probs });
        }
        let expected = self.sink.written(sequence);
        if index > expected {
            return Err(Misfit::Gap { sequence, expected, index });
        }
        for at in (expected - index) as usize..tokens.len() {
            self.sink.push(sequence, tokens[at], log_probs.get(at).copied().unwrap_or_default());
        }
        self.sink.publish();
        Ok(())
    }

    /// A piece of logits; they are handed on when all of it is there, unless their token already is.
    pub(super) fn logits(&mut self, piece: LogitsPiece) -> Result<(), Misfit> {
        let LogitsPiece { of, len, values } = piece;
        let new = values.len() as u64;
        self.values_left = self
            .values_left
            .checked_sub(new)
            .ok_or(Misfit::TooManyLogits { values: new, left: self.values_left })?;
        let mut part = self.part.take().unwrap_or(Part { of, len, values: Vec::new() });
        part.values.extend(values);
        let there = part.values.len() as u64;
        if (part.of, part.len) != (of, len) || there > len {
            return Err(Misfit::MixedLogits);
        }
        if there < len {
            self.part = Some(part);
            return Ok(());
        }
        if let LogitsOf::Generation { sequence, index } = of {
            self.check_sequence(sequence)?;
            if index < self.sink.written(sequence) {
                return Ok(());
            }
        }
        self.sink.logits(Logits { of, values: part.values });
        self.sink.publish();
        Ok(())
    }

    /// The end of a sequence.
    pub(super) fn finish(&mut self, finished: Finished) -> Result<(), Misfit> {
        self.check_sequence(finished.sequence)?;
        self.sink.finish(finished);
        self.sink.publish();
        Ok(())
    }

    fn check_sequence(&self, sequence: u32) -> Result<(), Misfit> {
        let sequences = self.sequences;
        if sequence < sequences {
            Ok(())
        } else {
            Err(Misfit::NoSuchSequence { sequence, sequences })
        }
    }
}
