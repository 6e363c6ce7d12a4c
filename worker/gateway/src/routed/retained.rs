//! What has come of a request: pure. It is what another instance needs to go on, and what tells
//! outputs that come again from new ones.

use shardrun_wire::{FinishReason, Logits, LogitsOf, Request, Resumed, Search, Tokens};
use thiserror::Error;

/// The tokens of a request's sequences, and which logits came.
#[derive(Debug)]
pub(super) struct Retained {
    sequences: Vec<Sequence>,
    /// Rows of the prompt.
    context_rows: u32,
}

#[derive(Debug)]
struct Sequence {
    tokens: Vec<u32>,
    /// Rows of generated tokens; may be ahead of the tokens.
    rows: u32,
    finished: bool,
}

/// Why an output doesn't follow what came before it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Misfit {
    #[error("an output of sequence {0}, which the request doesn't have")]
    NoSuchSequence(u32),
    #[error("an output at {index} where {expected} was expected")]
    Gap { index: u32, expected: u32 },
}

impl Retained {
    /// Nothing but what `request` itself brings from an earlier engine.
    pub(super) fn new(request: &Request) -> Self {
        let sequence = |number: u32| {
            let resumed = request.resume.get(number as usize);
            let tokens = resumed.map_or_else(Vec::new, |resumed| resumed.tokens.clone());
            let finished = resumed.is_some_and(|resumed| resumed.finished);
            Sequence { rows: tokens.len() as u32, tokens, finished }
        };
        let sequences = (0..request.search.sequences()).map(sequence).collect();
        Self { sequences, context_rows: 0 }
    }

    /// Whether all sequences have ended.
    pub(super) fn is_over(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.finished)
    }

    /// Tokens of all sequences, those that an earlier engine generated included.
    pub(super) fn generated(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.tokens.len()).sum()
    }

    /// The sequences that have not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = u32> + '_ {
        let open = |(at, sequence): (usize, &Sequence)| (!sequence.finished).then_some(at as u32);
        self.sequences.iter().enumerate().filter_map(open)
    }

    /// Takes tokens in; says how many of them had come before.
    pub(super) fn tokens(&mut self, tokens: &Tokens) -> Result<usize, Misfit> {
        let sequence = self.sequence(tokens.sequence)?;
        if sequence.finished {
            return Ok(tokens.tokens.len());
        }
        let had = ahead(sequence.tokens.len() as u32, tokens.index)?.min(tokens.tokens.len());
        sequence.tokens.extend_from_slice(&tokens.tokens[had..]);
        Ok(had)
    }

    /// Takes rows of logits in, each of `width` values; gives those that have not come before.
    pub(super) fn logits(
        &mut self,
        logits: Logits,
        width: usize,
    ) -> Result<Option<Logits>, Misfit> {
        let Logits { of, mut values } = logits;
        let rows = values.len() / width.max(1);
        let (seen, index) = match of {
            LogitsOf::Context { position } => (&mut self.context_rows, position),
            LogitsOf::Generation { sequence, index } => (&mut self.sequence(sequence)?.rows, index),
        };
        let had = ahead(*seen, index)?;
        if had >= rows {
            return Ok(None);
        }
        let first = *seen;
        *seen = index + rows as u32;
        values.drain(..had * width);
        let of = match of {
            LogitsOf::Context { .. } => LogitsOf::Context { position: first },
            LogitsOf::Generation { sequence, .. } => {
                LogitsOf::Generation { sequence, index: first }
            }
        };
        Ok(Some(Logits { of, values }))
    }

    /// Ends a sequence; says whether it had not ended.
    pub(super) fn finish(&mut self, sequence: u32) -> Result<bool, Misfit> {
        let sequence = self.sequence(sequence)?;
        Ok(!std::mem::replace(&mut sequence.finished, true))
    }

    /// The open sequences that have all their tokens, and lack only the word that they ended: no engine
    /// would take them as unfinished.
    pub(super) fn complete(&self, request: &Request) -> Vec<(u32, FinishReason)> {
        if let Search::Beam(_) = request.search {
            return Vec::new();
        }
        let ended = |at: u32| {
            let tokens = &self.sequences[at as usize].tokens;
            let stopped = request.stop_words.iter().any(|word| tokens.ends_with(word));
            let generated = !tokens.is_empty();
            match tokens.len() >= request.max_tokens as usize {
                _ if stopped && generated => Some((at, FinishReason::StopWords)),
                true => Some((at, FinishReason::Length)),
                false => None,
            }
        };
        self.open().filter_map(ended).collect()
    }

    /// `request` as another engine is to go on with it.
    pub(super) fn rest_of(&self, request: &Request) -> Request {
        let mut rest = request.clone();
        if let Search::Beam(_) = request.search {
            return rest;
        }
        if self.sequences.iter().any(|sequence| sequence.finished || !sequence.tokens.is_empty()) {
            rest.resume = self.sequences.iter().map(Sequence::resumed).collect();
        }
        rest.wanted.context_logits &= (self.context_rows as usize) < request.prompt.len();
        rest
    }

    fn sequence(&mut self, number: u32) -> Result<&mut Sequence, Misfit> {
        self.sequences.get_mut(number as usize).ok_or(Misfit::NoSuchSequence(number))
    }
}

impl Sequence {
    fn resumed(&self) -> Resumed {
        Resumed { tokens: self.tokens.clone(), finished: self.finished }
    }
}

/// How many outputs from `index` on have come, if `seen` have in all.
fn ahead(seen: u32, index: u32) -> Result<usize, Misfit> {
    let had = seen.checked_sub(index).ok_or(Misfit::Gap { index, expected: seen })?;
    Ok(had as usize)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_wire::{BeamSearch, RequestId, Wanted};

    use super::*;

    fn request(sequences: u32) -> Request {
        let mut request = Request::new(RequestId(1), vec![1, 2, 3], 4);
        request.search = Search::Sample { sequences };
        request.stop_words = vec![vec![7, 8]];
        request.wanted = Wanted { context_logits: true, ..Wanted::default() };
        request
    }

    fn tokens(sequence: u32, index: u32, tokens: &[u32]) -> Tokens {
        Tokens { sequence, index, tokens: tokens.to_vec(), log_probs: Vec::new() }
    }

    #[test]
    fn what_comes_again_is_told_from_what_is_new() {
        let mut retained = Retained::new(&request(2));
        assert_eq!(retained.tokens(&tokens(0, 0, &[5, 6])), Ok(0));
        assert_eq!(retained.tokens(&tokens(0, 1, &[6, 9])), Ok(1));
        assert_eq!(retained.tokens(&tokens(0, 0, &[5])), Ok(1));
        let gap = Misfit::Gap { index: 4, expected: 3 };
        assert_eq!(retained.tokens(&tokens(0, 4, &[5])), Err(gap));
        assert_eq!(retained.tokens(&tokens(2, 0, &[5])), Err(Misfit::NoSuchSequence(2)));
        assert_eq!(retained.finish(1), Ok(true));
        assert_eq!(retained.finish(1), Ok(false));
        assert_eq!(retained.tokens(&tokens(1, 0, &[5])), Ok(1), "nothing after its end");
        let rest = retained.rest_of(&request(2)).resume;
        let expected = [
            Resumed { tokens: vec![5, 6, 9], finished: false },
            Resumed { tokens: vec![], finished: true },
        ];
        assert_eq!(rest, expected);
    }

    #[test]
    fn rows_come_once_even_ahead_of_their_tokens() {
        let mut retained = Retained::new(&request(1));
        let context = |position, values: &[f32]| Logits {
            of: LogitsOf::Context { position },
            values: values.to_vec(),
        };
        let first = retained.logits(context(0, &[0.0, 0.5, 1.0, 1.5]), 2).unwrap();
        assert_eq!(first, Some(context(0, &[0.0, 0.5, 1.0, 1.5])));
        assert!(retained.rest_of(&request(1)).wanted.context_logits, "a row is missing");
        let again = context(0, &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(retained.logits(again, 2).unwrap(), Some(context(2, &[2.0, 2.5])));
        assert!(!retained.rest_of(&request(1)).wanted.context_logits, "all rows came");
        let row = |index| Logits {
            of: LogitsOf::Generation { sequence: 0, index },
            values: vec![3.0, 3.5],
        };
        assert_eq!(retained.logits(row(0), 2).unwrap(), Some(row(0)));
        assert_eq!(retained.logits(row(0), 2).unwrap(), None);
        assert_eq!(retained.logits(row(2), 2), Err(Misfit::Gap { index: 2, expected: 1 }));
    }

    #[test]
    fn a_sequence_with_all_its_tokens_has_ended() {
        let mut retained = Retained::new(&request(3));
        retained.tokens(&tokens(0, 0, &[1, 2, 3, 4])).unwrap();
        retained.tokens(&tokens(1, 0, &[7, 8])).unwrap();
        retained.tokens(&tokens(2, 0, &[8, 7])).unwrap();
        let complete = retained.complete(&request(3));
        assert_eq!(complete, [(0, FinishReason::Length), (1, FinishReason::StopWords)]);
        let mut both = Retained::new(&request(1));
        both.tokens(&tokens(0, 0, &[1, 2, 7, 8])).unwrap();
        assert_eq!(both.complete(&request(1)), [(0, FinishReason::StopWords)], "as in the engine");
    }

    #[test]
    fn what_an_engine_before_generated_is_part_of_it() {
        let mut request = request(1);
        request.resume = vec![Resumed { tokens: vec![5, 6], finished: false }];
        let mut retained = Retained::new(&request);
        assert_eq!(retained.rest_of(&request).resume, request.resume);
        assert_eq!(retained.tokens(&tokens(0, 2, &[9])), Ok(0));
        assert_eq!(retained.rest_of(&request).resume[0].tokens, [5, 6, 9]);
    }

    #[test]
    fn beams_start_over() {
        let mut request = request(1);
        request.search = Search::Beam(BeamSearch {
            width: 2,
            sequences: 2,
            length_penalty: 0.0,
            diversity_rate: 0.0,
            early_stopping: 1,
        });
        let mut retained = Retained::new(&request);
        retained.tokens(&tokens(0, 0, &[1, 2, 3, 4])).unwrap();
        retained.finish(0).unwrap();
        assert_eq!(retained.complete(&request), []);
        assert_eq!(retained.rest_of(&request), request);
        assert_eq!(retained.tokens(&tokens(0, 0, &[1, 2, 3, 4])), Ok(4), "it is the same search");
        assert_eq!(retained.open().collect::<Vec<_>>(), [1]);
    }
}
