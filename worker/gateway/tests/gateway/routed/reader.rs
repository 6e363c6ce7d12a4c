//! A client that reads a request's outputs and keeps all of them.

use std::fmt::Debug;

use shardrun_wire::{
    FinishReason, Finished, Logits, LogitsOf, Output, OutputStream, Request, RequestId, Sampling,
    Search, Tokens, Wanted,
};

use super::scripted::{VOCAB_SIZE, log_prob, row, undisturbed};

/// What came of a sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    log_probs: Vec<f32>,
    rows: Vec<Vec<f32>>,
    pub(crate) end: Option<Finished>,
}

/// What came of a request. Everything was checked to come in order and once.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    request: Request,
    pub(crate) sequences: Vec<Sequence>,
    context: Vec<Vec<f32>>,
}

pub(crate) fn request(id: u64, max_tokens: u32) -> Request {
    Request {
        sampling: Sampling { seed: id, ..Sampling::GREEDY },
        ..Request::new(RequestId(id), (1..10).collect(), max_tokens)
    }
}

impl Read {
    /// Nothing yet.
    pub(crate) fn of(request: &Request) -> Self {
        let sequences = vec![Sequence::default(); request.search.sequences() as usize];
        Self { request: request.clone(), sequences, context: Vec::new() }
    }

    /// The first sequence had these tokens before.
    pub(crate) fn has(&mut self, tokens: &[u32]) {
        let first = &mut self.sequences[0];
        first.tokens.extend(tokens);
        first.log_probs.extend(tokens.iter().copied().map(log_prob));
        first.rows.extend(tokens.iter().enumerate().map(|(at, &token)| row(token, at)));
        if !self.request.wanted.log_probs {
            first.log_probs.clear();
        }
        if !self.request.wanted.generation_logits {
            first.rows.clear();
        }
    }

    /// Reads to the end.
    pub(crate) async fn all(request: &Request, mut outputs: OutputStream) -> Self {
        let mut read = Self::of(request);
        while let Some(output) = outputs.next().await {
            read.take(output);
        }
        read
    }

    /// Reads until the first sequence has so many tokens.
    pub(crate) async fn until(&mut self, outputs: &mut OutputStream, tokens: usize) {
        while self.sequences[0].tokens.len() < tokens {
            self.take(outputs.next().await.unwrap());
        }
    }

    pub(crate) async fn rest(mut self, mut outputs: OutputStream) -> Self {
        while let Some(output) = outputs.next().await {
            self.take(output);
        }
        self
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Tokens(Tokens { sequence, index, tokens, log_probs }) => {
                let sequence = &mut self.sequences[sequence as usize];
                assert_eq!(sequence.tokens.len(), index as usize);
                assert!(sequence.end.is_none());
                sequence.tokens.extend(tokens);
                sequence.log_probs.extend(log_probs);
                if self.request.wanted.generation_logits {
                    assert!(sequence.rows.len() >= sequence.tokens.len(), "before their token");
                }
            }
            Output::Logits(Logits { of, values }) => {
                let (rows, first) = match of {
                    LogitsOf::Context { position } => (&mut self.context, position),
                    LogitsOf::Generation { sequence, index } => {
                        (&mut self.sequences[sequence as usize].rows, index)
                    }
                };
                assert_eq!(rows.len(), first as usize, "{of:?}");
                rows.extend(values.chunks(VOCAB_SIZE as usize).map(<[f32]>::to_vec));
            }
            Output::Finished(end) => {
                let sequence = &mut self.sequences[end.sequence as usize];
                assert!(sequence.end.replace(end).is_none());
            }
        }
    }

    /// The reasons for which its sequences ended.
    pub(crate) fn reasons(&self) -> Vec<FinishReason> {
        self.sequences.iter().map(|one| one.end.clone().unwrap().reason).collect()
    }

    /// Why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.reasons().into_iter().find_map(|reason| match reason {
            FinishReason::Failed(why) => Some(why),
            _ => None,
        })
    }

    /// Checks that it is what an engine gives that nothing disturbs.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        self.is_right(true);
    }

    /// Checks that it is as far as it goes.
    #[track_caller]
    pub(crate) fn is_a_beginning(&self) {
        self.is_right(false);
    }

    #[track_caller]
    fn is_right(&self, whole: bool) {
        let Request { wanted, prompt, search, .. } = &self.request;
        for (sequence, number) in self.sequences.iter().zip(0..) {
            let (tokens, reason) = undisturbed(&self.request, number);
            let end = sequence.end.as_ref().expect("an end");
            if whole || end.reason == reason {
                same(&sequence.tokens, &tokens, &self.request);
                assert_eq!(end.reason, reason);
                assert_eq!(end.score.is_some(), matches!(search, Search::Beam(_)));
            }
            assert!(tokens.starts_with(&sequence.tokens));
            if wanted.log_probs {
                let log_probs: Vec<f32> = sequence.tokens.iter().copied().map(log_prob).collect();
                same(&sequence.log_probs, &log_probs, &self.request);
            }
            let rows = if wanted.generation_logits { sequence.rows.len() } else { 0 };
            assert!(!wanted.generation_logits || rows >= sequence.tokens.len());
            let expected: Vec<_> = (0..rows).map(|at| row(tokens[at], at)).collect();
            same(&sequence.rows, &expected, &self.request);
        }
        let rows: Vec<_> = prompt.iter().enumerate().map(|(at, &token)| row(token, at)).collect();
        assert!(rows.starts_with(&self.context));
        if whole {
            assert_eq!(self.context.len(), if wanted.context_logits { rows.len() } else { 0 });
        }
    }
}

#[track_caller]
fn same<T: PartialEq + Debug>(got: &[T], expected: &[T], request: &Request) {
    assert_eq!(got, expected, "{request:?}");
}

pub(crate) const EVERYTHING: Wanted =
    Wanted { log_probs: true, context_logits: true, generation_logits: true };
