//! From shares to a plan: blocks, tokens, and what the rows of logits are for.

use shardrun_wire::Search;

use super::group::Group;
use super::{Draw, Planned, Scheduler, SequenceRef};
use crate::plan::{Rows, SequencePlan};

impl Scheduler {
    /// Writes the plan.
    pub(super) fn lay_out(&mut self) {
        let mut row = 0;
        for at in 0..self.shares.len() {
            let share = self.shares[at];
            let (place, number, tokens) = (share.group, share.sequence, share.tokens);
            let group = &mut self.running[place];
            group.planned_in = self.plan.step + 1;
            self.cache.extend(group, number, tokens, &mut self.plan.copies);

            let in_context = group.in_context();
            let new_request = self.planned.last().is_none_or(|last| last.group != place);
            if in_context {
                self.stats.context_requests += usize::from(new_request);
                self.stats.context_tokens += tokens;
            } else {
                self.stats.generation_requests += usize::from(new_request);
                self.stats.generation_tokens += tokens;
            }

            let sequence = &mut group.sequences[number];
            let span = sequence.computed..sequence.computed + tokens;
            let slot = sequence.slot.expect("a sequence that runs has a slot");
            let new = &sequence.blocks[sequence.told..];
            self.plan.tokens.extend_from_slice(&sequence.tokens[span.clone()]);
            self.plan.blocks.extend(new.iter().map(|block| block.0));
            let (kept_blocks, new_blocks) = (sequence.told as u32, new.len() as u32);
            sequence.told = sequence.blocks.len();

            let group = &self.running[place];
            let logits = logits_of(group, number, span.end);
            self.plan.sequences.push(SequencePlan {
                slot: slot.index,
                generation: slot.generation,
                position: span.start as u32,
                tokens: tokens as u32,
                kept_blocks,
                new_blocks,
                logits,
            });
            self.planned.push(Planned { group: place, sequence: number, tokens });
            if logits == Rows::All {
                let prompt = group.request.prompt.len();
                let first = span.start.max(group.context_rows);
                let rows = span.end.min(prompt) - first;
                let (id, row) = (group.request.id, row + first - span.start);
                self.draws.push(Draw::Context { row, rows, position: first, id });
            }
            let rows = match logits {
                Rows::None => 0,
                Rows::Last => 1,
                Rows::All => tokens,
            };
            row += rows;
            if draws(group, number, span.end) {
                self.draw(place, number, row - 1);
            }
        }
    }

    /// Notes what is drawn from `row`, a sequence's last.
    fn draw(&mut self, place: usize, number: usize, row: usize) {
        let group = &self.running[place];
        let of = |at: usize| SequenceRef { group: place, sequence: at as u32 };
        match group.request.search {
            Search::Sample { .. } if group.is_fresh() => {
                self.draws.extend(group.live().map(|at| Draw::Sample { row, of: of(at) }));
            }
            Search::Sample { .. } => self.draws.push(Draw::Sample { row, of: of(number) }),
            Search::Beam(_) => match self.draws.last_mut() {
                // The beams of one search follow each other.
                Some(Draw::Beam { of, beams, .. }) if of.group == place => *beams += 1,
                _ => {
                    let beams = group.beams.as_ref().expect("a beam search has beams");
                    let candidates = beams.candidates();
                    self.draws.push(Draw::Beam { row, beams: 1, of: of(number), candidates });
                }
            },
        }
    }
}

/// Whether something is drawn from the row before `end`.
fn draws(group: &Group, number: usize, end: usize) -> bool {
    end == group.sequences[number].tokens.len()
}

/// Which rows of a sequence give logits, if it computes up to `end`.
fn logits_of(group: &Group, number: usize, end: usize) -> Rows {
    let context_wanted = group.request.wanted.context_logits
        && number == group.trunk()
        // Those that the client has are computed again after a pause.
        && group.context_rows < end.min(group.request.prompt.len());
    if context_wanted {
        Rows::All
    } else if draws(group, number, end) {
        Rows::Last
    } else {
        Rows::None
    }
}
