//! One sequence of a request: its tokens in order, and the text that they make.

use std::sync::Arc;

use shardrun_wire::{Tokens, Wanted};

use super::rows::Rows;
use crate::stop::StopWords;
use crate::{Detokenize, TextModel};

/// What a sequence generated, or a piece of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generated {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    /// One a token, if they were wanted.
    pub(crate) log_probs: Vec<f32>,
    /// One row a token, if they were wanted.
    pub(crate) logits: Vec<Vec<f32>>,
    /// Of a beam that has ended: the sum that the search had, its end token's log probability included.
    pub(crate) beam_sum: Option<f32>,
}

impl Generated {
    /// `sum` and the log probabilities here, added in the order of their tokens: the result is the
    /// same in however many pieces they come. Of a beam, what the search says.
    pub(crate) fn cum_log_prob(&self, sum: f32) -> f32 {
        let added = || self.log_probs.iter().fold(sum, |sum, log_prob| sum + log_prob);
        self.beam_sum.unwrap_or_else(added)
    }

    pub(crate) fn append(&mut self, mut next: Self) {
        self.text += &next.text;
        self.tokens.append(&mut next.tokens);
        self.log_probs.append(&mut next.log_probs);
        self.logits.append(&mut next.logits);
        self.beam_sum = next.beam_sum.or(self.beam_sum);
    }
}

/// Turns the tokens of any number of sequences into text.
pub(crate) struct TextReader {
    pub(crate) model: Arc<dyn TextModel>,
    /// Each sequence ends after the first of them.
    pub(crate) stop_words: Arc<[String]>,
}

impl TextReader {
    pub(super) fn of_a_sequence(&self) -> SequenceText {
        SequenceText {
            detokenizer: self.model.clone().detokenizer(),
            stop: StopWords::new(self.stop_words.clone()),
        }
    }
}

/// The text of one sequence, as far as it has come.
pub(super) struct SequenceText {
    detokenizer: Box<dyn Detokenize>,
    stop: StopWords,
}

pub(super) struct Sequence {
    /// Until it is closed, if there is text.
    text: Option<SequenceText>,
    rows: Rows,
    /// Tokens that have come.
    seen: u32,
    /// Clients see nothing more of it.
    closed: bool,
    /// The engine has not ended it.
    generating: bool,
}

impl Sequence {
    pub(super) fn new(text: Option<SequenceText>, rows: Rows) -> Self {
        Self { text, rows, seen: 0, closed: false, generating: true }
    }

    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    pub(super) fn generating(&self) -> bool {
        self.generating
    }

    pub(super) fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }

    /// Adds to `piece` the tokens that have not come before. A stop word closes the sequence: the
    /// tokens after the one that completes it are not seen. `None` if tokens, their log
    /// probabilities or their logits are missing.
    pub(super) fn push(
        &mut self,
        tokens: Tokens,
        wanted: Wanted,
        piece: &mut Generated,
    ) -> Option<()> {
        let repeated = self.seen.checked_sub(tokens.index)? as usize;
        for (n, &token) in tokens.tokens.iter().enumerate().skip(repeated) {
            self.seen += 1;
            let log_prob = if wanted.log_probs { Some(*tokens.log_probs.get(n)?) } else { None };
            let row = if wanted.generation_logits { Some(self.rows.take_one()?) } else { None };
            if self.closed {
                continue;
            }
            piece.tokens.push(token);
            piece.log_probs.extend(log_prob);
            piece.logits.extend(row);
            if let Some(SequenceText { detokenizer, stop }) = &mut self.text {
                let mut text = detokenizer.push(token);
                self.closed = stop.cut(&mut text);
                piece.text += &text;
            }
        }
        Some(())
    }

    /// The engine ended it: adds the text that is left.
    pub(super) fn finish(&mut self, piece: &mut Generated) {
        self.generating = false;
        if let Some(SequenceText { detokenizer, mut stop }) = self.text.take()
            && !self.closed
        {
            let mut text = detokenizer.finish();
            stop.cut(&mut text);
            piece.text += &text;
        }
        self.closed = true;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WANTED: Wanted =
        Wanted { log_probs: true, context_logits: false, generation_logits: true };

    fn sequence(rows: u32) -> Sequence {
        let mut sequence = Sequence::new(None, Rows::new(1));
        let values: Vec<f32> = (0..rows).map(|row| row as f32).collect();
        sequence.rows().add(0, &values).unwrap();
        sequence
    }

    fn tokens(index: u32, tokens: &[u32]) -> Tokens {
        let log_probs = tokens.iter().map(|&token| -(token as f32)).collect();
        Tokens { sequence: 0, index, tokens: tokens.to_vec(), log_probs }
    }

    #[test]
    fn tokens_that_come_twice_count_once() {
        let mut sequence = sequence(5);
        let mut all = Generated::default();
        for (index, some) in [(0, &[5, 6, 7][..]), (1, &[6, 7, 8]), (0, &[5]), (4, &[9])] {
            sequence.push(tokens(index, some), WANTED, &mut all).unwrap();
        }
        assert_eq!(all.tokens, [5, 6, 7, 8, 9]);
        assert_eq!(all.log_probs, [-5.0, -6.0, -7.0, -8.0, -9.0]);
        assert_eq!(all.logits, [[0.0], [1.0], [2.0], [3.0], [4.0]]);
    }

    #[test]
    fn what_is_missing_is_seen() {
        let push = |tokens| sequence(1).push(tokens, WANTED, &mut Generated::default());
        assert_eq!(push(tokens(0, &[5])), Some(()));
        assert_eq!(push(tokens(1, &[5])), None, "a token before it");
        assert_eq!(push(tokens(0, &[5, 6])), None, "a row of logits");
        let log_probs = Vec::new();
        assert_eq!(push(Tokens { log_probs, ..tokens(0, &[5]) }), None, "a log probability");
    }

    #[test]
    fn nothing_is_seen_of_a_closed_sequence() {
        let mut sequence = sequence(3);
        sequence.finish(&mut Generated::default());
        let mut piece = Generated::default();
        sequence.push(tokens(0, &[5, 6, 7]), WANTED, &mut piece).unwrap();
        assert_eq!((piece.tokens.len(), piece.logits.len()), (0, 0));
        assert_eq!(sequence.rows().take_one(), None, "its logits are not kept");
    }

    #[test]
    fn sums_do_not_depend_on_the_pieces() {
        let log_probs = vec![-1e-3, -16_777_216.0, -0.7, -1e7];
        let whole = Generated { log_probs: log_probs.clone(), ..Generated::default() };
        let pieces = log_probs.chunks(3).fold(0.0, |sum, some| {
            Generated { log_probs: some.to_vec(), ..Generated::default() }.cum_log_prob(sum)
        });
        assert_eq!(whole.cum_log_prob(0.0).to_bits(), pieces.to_bits());
    }
}
