//! A request in the engine, seen as what its sequences bring, piece by piece.

mod rows;
mod running;
mod sequence;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use shardrun_wire::{
    EngineClient, FinishReason, Finished, Logits, LogitsOf, Output, OutputStream, Request,
    RequestAccount, Search, Wanted,
};

pub(crate) use sequence::{Generated, TextReader};

use crate::account::Account;
use crate::error::{ApiError, TimeLimit};
use crate::named::Named;
use rows::Rows;
use running::Running;
use sequence::Sequence;

/// A request that the engine runs. Dropped before its end, as when the client leaves, it is
/// cancelled.
pub(crate) struct Completion {
    running: Running,
    outputs: OutputStream,
    /// Has come, and is not yet its turn.
    held: VecDeque<Output>,
    /// Whether each token is a piece, however many come at once. A beam comes as a whole.
    by_token: bool,
    sequences: Vec<Sequence>,
    context: Rows,
    /// Rows that `context` has before anything else comes.
    context_rows: u32,
    wanted: Wanted,
    wants_account: bool,
    account: Option<RequestAccount>,
}

/// What a completion needs beside the engine and the request.
pub(crate) struct Reader {
    /// Turns tokens into text; without, there is none.
    pub(crate) text: Option<TextReader>,
    /// Size of the vocabulary.
    pub(crate) vocab_size: u32,
    /// Whether [`Completion::account`] will be asked for.
    pub(crate) wants_account: bool,
    /// Where it is counted.
    pub(crate) account: Account,
    /// The model's timeout of requests that name none.
    pub(crate) model_timeout: Option<Duration>,
    /// Its entry under the client's id.
    pub(crate) named: Option<Named>,
}

impl Completion {
    /// Hands `request` to the engine.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub(crate) async fn start(
        engine: &Arc<dyn EngineClient>,
        request: Request,
        reader: Reader,
    ) -> Result<Self, ApiError> {
        let Reader { text, vocab_size, wants_account, account, model_timeout, named } = reader;
        let limit = TimeLimit::of(request.timeout, model_timeout);
        let rows = || Rows::new(vocab_size);
        let wanted = request.wanted;
        let by_token = matches!(request.search, Search::Sample { .. });
        let context_rows = if wanted.context_logits { request.prompt.len() as u32 } else { 0 };
        let sequences = (0..request.search.sequences())
            .map(|_| Sequence::new(text.as_ref().map(TextReader::of_a_sequence), rows()))
            .collect();
        // Before the engine has it: a client may leave while the engine compiles a guide.
        let mut running = Running::new(engine.clone(), request.id, limit, account, named);
        let outputs = engine.submit(request).await.map_err(|refused| running.refused(refused))?;
        Ok(Self {
            running,
            outputs,
            held: VecDeque::new(),
            by_token,
            sequences,
            context: rows(),
            context_rows,
            wanted,
            wants_account,
            account: None,
        })
    }

    /// How many sequences the request has.
    pub(crate) fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// What comes next, and of which sequence: tokens, its end, or both. `None` when all sequences
    /// have ended.
    ///
    /// # Errors
    /// If the engine failed or gave up; nothing comes after that.
    pub(crate) async fn next(&mut self) -> Result<Option<(u32, Generated)>, ApiError> {
        while !self.running.ended() {
            let Some(output) = self.output().await else { return Err(self.running.lost()) };
            let Some(piece) = self.take(output)? else { continue };
            if self.sequences.iter().all(Sequence::closed) {
                let generating = self.sequences.iter().any(Sequence::generating);
                self.running.complete(generating);
                if generating && self.wants_account {
                    self.settle().await;
                }
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }

    /// The prompt's logits that have come since the last call.
    pub(crate) fn context_logits(&mut self) -> Vec<Vec<f32>> {
        self.context.take()
    }

    /// Times and blocks, once all sequences have ended.
    pub(crate) fn account(&self) -> Option<RequestAccount> {
        self.account
    }

    /// A response goes out.
    pub(crate) fn responded(&mut self) {
        self.running.responded();
    }

    async fn output(&mut self) -> Option<Output> {
        let output = match self.held.pop_front() {
            Some(output) => output,
            None => self.outputs.next().await?,
        };
        match output {
            Output::Tokens(mut tokens) if self.by_token => {
                if let Some(rest) = tokens.split_off(1) {
                    self.held.push_front(Output::Tokens(rest));
                }
                Some(Output::Tokens(tokens))
            }
            output => Some(output),
        }
    }

    /// Takes an output in. Gives what a client sees of it, if anything.
    fn take(&mut self, output: Output) -> Result<Option<(u32, Generated)>, ApiError> {
        let (number, tokens, mut finished) = match output {
            Output::Logits(logits) => return self.keep(logits).map(|()| None),
            Output::Tokens(tokens) => (tokens.sequence, Some(tokens), None),
            Output::Finished(finished) => (finished.sequence, None, Some(finished)),
        };
        let Some(sequence) = self.sequences.get_mut(number as usize) else {
            return Err(self.running.lost());
        };
        let open = !sequence.closed();
        let mut piece = Generated::default();
        if let Some(tokens) = tokens {
            if sequence.push(tokens, self.wanted, &mut piece).is_none() {
                return Err(self.running.lost());
            }
            finished = self.finished_at_once(number);
        }
        let ended = finished.is_some();
        if let Some(finished) = finished {
            self.finish(finished, &mut piece)?;
        }
        if self.context.seen() < self.context_rows {
            return Err(self.running.lost());
        }
        let seen = open && (ended || !piece.tokens.is_empty());
        Ok(seen.then_some((number, piece)))
    }

    /// The end of a sequence, if what has just come brought it: then both are one piece. An end token
    /// is what an iteration of its own brings.
    fn finished_at_once(&mut self, sequence: u32) -> Option<Finished> {
        if self.held.is_empty() {
            self.held.extend(self.outputs.next().now_or_never().flatten());
        }
        match self.held.pop_front()? {
            Output::Finished(finished)
                if finished.sequence == sequence && finished.reason != FinishReason::EndId =>
            {
                Some(finished)
            }
            other => {
                self.held.push_front(other);
                None
            }
        }
    }

    fn finish(&mut self, finished: Finished, piece: &mut Generated) -> Result<(), ApiError> {
        self.account = self.account.or(finished.account);
        piece.beam_sum = finished.score.map(|score| score.cum_log_prob);
        if let Some(sequence) = self.sequences.get_mut(finished.sequence as usize) {
            // One that a stop word closed has all that it should, however the engine ends it.
            if !sequence.closed() {
                self.running.judge(finished.reason)?;
            }
            sequence.finish(piece);
        }
        Ok(())
    }

    fn keep(&mut self, Logits { of, values }: Logits) -> Result<(), ApiError> {
        let kept = match of {
            LogitsOf::Context { position } => self.context.add(position, &values),
            LogitsOf::Generation { sequence, index } => self
                .sequences
                .get_mut(sequence as usize)
                .and_then(|sequence| sequence.rows().add(index, &values)),
        };
        kept.ok_or_else(|| self.running.lost())
    }

    /// Waits for the engine's account of a request that was ended by a stop word.
    async fn settle(&mut self) {
        while self.account.is_none() {
            match self.output().await {
                Some(Output::Finished(finished)) => self.account = finished.account,
                Some(_) => {}
                None => return,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
