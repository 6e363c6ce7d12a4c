//! What a request makes of a row of logits before a token is chosen.

use shardrun_wire::Sampling;

use super::sampler::SequenceView;
use super::scan::{Best, best};

/// Changes logits; keeps its memory from one row to the next.
#[derive(Debug)]
pub(super) struct Processor {
    /// `[vocabulary]`: the row as changed.
    scores: Vec<f32>,
    /// `[vocabulary]`: how often a token came; all zero between uses.
    counts: Vec<u32>,
}

/// Scores to choose from. Those that are NaN or negative infinity can't be chosen; there is another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) scores: &'a [f32],
    pub(super) best: Best,
}

impl Processor {
    pub(super) fn new(vocab_size: usize) -> Self {
        Self { scores: Vec::with_capacity(vocab_size), counts: vec![0; vocab_size] }
    }

    /// The scores of the next token, before temperature. Where bans leave nothing to choose from, the
    /// mask alone holds, and where that leaves no number, all that it allows is alike. `None`
    /// if it allows nothing.
    pub(super) fn row<'a>(
        &'a mut self,
        logits: &'a [f32],
        view: &SequenceView<'_>,
    ) -> Option<Row<'a>> {
        if moves_nothing(view)
            && bans_nothing(view)
            && let Some(best) = best(logits)
        {
            return Some(Row { scores: logits, best });
        }
        let best = self
            .changed(logits, view, Bans::Hold)
            .or_else(|| self.changed(logits, view, Bans::Lifted))
            .or_else(|| self.flat(logits.len(), view))?;
        Some(Row { scores: &self.scores, best })
    }

    /// The best of [`Processor::row`], if that can be told without changing the row: only bans could, and
    /// they are of others.
    pub(super) fn best_as_it_is(logits: &[f32], view: &SequenceView<'_>) -> Option<Best> {
        if !moves_nothing(view) {
            return None;
        }
        let best = best(logits)?;
        let mut banned = false;
        for_each_ban(view, |token| banned |= token == best.token);
        (!banned).then_some(best)
    }

    fn changed(&mut self, logits: &[f32], view: &SequenceView<'_>, bans: Bans) -> Option<Best> {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        let sampling = &view.request.sampling;
        for &(token, bias) in &view.request.embedding_bias {
            if let Some(score) = self.scores.get_mut(token as usize) {
                *score += bias;
            }
        }
        self.penalise_repetition(sampling.repetition_penalty, view.tokens);
        self.penalise_presence(sampling, view.generated());
        if bans == Bans::Hold {
            for_each_ban(view, |token| self.ban(token));
        }
        self.keep_allowed(view.mask)
    }

    fn flat(&mut self, vocab_size: usize, view: &SequenceView<'_>) -> Option<Best> {
        self.scores.clear();
        self.scores.resize(vocab_size, 0.0);
        self.keep_allowed(view.mask)
    }

    fn ban(&mut self, token: u32) {
        if let Some(score) = self.scores.get_mut(token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }

    /// Bans what the mask doesn't have, and looks for the best of the rest.
    fn keep_allowed(&mut self, mask: Option<&[u32]>) -> Option<Best> {
        if let Some(mask) = mask {
            let words = mask.iter().copied().chain(std::iter::repeat(0));
            for (scores, word) in self.scores.chunks_mut(32).zip(words) {
                for (bit, score) in scores.iter_mut().enumerate() {
                    let allowed = word >> bit & 1 == 1;
                    *score = if allowed { *score } else { f32::NEG_INFINITY };
                }
            }
        }
        best(&self.scores)
    }

    /// Once for each token that came, however often.
    fn penalise_repetition(&mut self, penalty: f32, tokens: &[u32]) {
        if penalty == 1.0 {
            return;
        }
        self.for_each_count(tokens, |score, _| {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        });
    }

    fn penalise_presence(&mut self, sampling: &Sampling, generated: &[u32]) {
        let Sampling { presence_penalty, frequency_penalty, .. } = *sampling;
        if presence_penalty == 0.0 && frequency_penalty == 0.0 {
            return;
        }
        self.for_each_count(generated, |score, count| {
            *score -= presence_penalty + frequency_penalty * count as f32;
        });
    }

    /// Gives the score of each token that is in `tokens`, and how often it is.
    fn for_each_count(&mut self, tokens: &[u32], change: impl Fn(&mut f32, u32)) {
        for &token in tokens {
            if let Some(count) = self.counts.get_mut(token as usize) {
                *count += 1;
            }
        }
        for &token in tokens {
            let count = self.counts.get_mut(token as usize).map_or(0, std::mem::take);
            if let Some(score) = self.scores.get_mut(token as usize).filter(|_| count > 0) {
                change(score, count);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bans {
    Hold,
    Lifted,
}

/// Whether no score is added to or multiplied, and no mask holds.
pub(super) fn moves_nothing(view: &SequenceView<'_>) -> bool {
    let sampling = &view.request.sampling;
    view.request.embedding_bias.is_empty()
        && view.mask.is_none()
        && sampling.repetition_penalty == 1.0
        && sampling.presence_penalty == 0.0
        && sampling.frequency_penalty == 0.0
}

/// Whether no token is ever banned.
pub(super) fn bans_nothing(view: &SequenceView<'_>) -> bool {
    view.request.bad_words.is_empty()
        && view.request.sampling.no_repeat_ngram_size == 0
        && !view.end_is_too_early()
}

/// Gives each token that may not follow, some of them more than once.
fn for_each_ban(view: &SequenceView<'_>, mut ban: impl FnMut(u32)) {
    let size = view.request.sampling.no_repeat_ngram_size as usize;
    repeated_ngrams(size, view.tokens, &mut ban);
    bad_words(&view.request.bad_words, view.tokens, &mut ban);
    if view.end_is_too_early() {
        view.request.end_id.iter().for_each(|&end| ban(end));
    }
}

/// Gives the tokens that would end a run of `size` which is in `tokens` already.
fn repeated_ngrams(size: usize, tokens: &[u32], mut ban: impl FnMut(u32)) {
    if size == 0 || size > tokens.len() {
        return;
    }
    let begun = &tokens[tokens.len() + 1 - size..];
    for run in tokens.windows(size) {
        if let Some((&last, before)) = run.split_last()
            && before == begun
        {
            ban(last);
        }
    }
}

/// Gives the last token of words of which `tokens` ends in all others: always, of words of one.
fn bad_words(words: &[Vec<u32>], tokens: &[u32], mut ban: impl FnMut(u32)) {
    for word in words {
        if let Some((&last, before)) = word.split_last()
            && tokens.ends_with(before)
        {
            ban(last);
        }
    }
}
