//! How many tokens each sequence computes in an iteration.

use super::Scheduler;
use super::group::Group;
use super::pace::Load;

/// Who gets the tokens that an iteration has left for prompts, if they aren't enough for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkingPolicy {
    /// Those that started first.
    FirstComeFirstServed,
    /// All, as many each.
    EqualProgress,
}

/// A sequence's tokens in the next iteration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) group: usize,
    pub(super) sequence: usize,
    pub(super) tokens: usize,
}

/// What a sequence would compute next.
enum Next {
    /// The token that it generated last.
    Token,
    /// So many tokens that it had before.
    Context(usize),
}

impl Scheduler {
    /// Shares the tokens of the next iteration out: those that generate come first, with a token
    /// each, which is always enough for them. Prompts get of the rest what their pace allows.
    pub(super) fn share_out(&mut self) {
        let mut left = self.config.max_num_tokens;
        self.shares.clear();
        for generating in [true, false] {
            for (group, of) in self.running.iter().enumerate().filter(|(_, of)| !of.paused) {
                next_of(of, |sequence, next| match next {
                    Next::Token if generating => {
                        self.shares.push(Share { group, sequence, tokens: 1 });
                        left -= 1;
                    }
                    Next::Context(tokens) if !generating => {
                        self.shares.push(Share { group, sequence, tokens });
                    }
                    Next::Token | Next::Context(_) => {}
                });
            }
        }
        let generating = self.config.max_num_tokens - left;
        let running = self.running.iter().filter(|group| !group.paused);
        let running = running.map(|group| group.live().count()).sum::<usize>() + self.following;
        let left = left.min(self.pace.most_prompt_tokens(generating, running));
        let chunks = &mut self.shares[generating..];
        match self.config.chunking {
            ChunkingPolicy::FirstComeFirstServed => first_come_first_served(chunks, left),
            ChunkingPolicy::EqualProgress => equal_progress(chunks, left, self.plan.step),
        }
        let prompt = self.shares[generating..].iter().map(|share| share.tokens).sum();
        self.shares.retain(|share| share.tokens > 0);
        self.pace.plan(Load { prompt, generating });
    }
}

/// What each sequence of a group would do next.
fn next_of(group: &Group, mut each: impl FnMut(usize, Next)) {
    let beams = group.beams.is_some();
    let fresh = group.is_fresh();
    // The next tokens of a beam search are drawn for all beams at once, when all are there.
    let held_back = usize::from(beams && !fresh);
    if fresh || !group.is_forked() {
        let trunk = group.trunk();
        return each(trunk, Next::Context(group.sequences[trunk].behind() - held_back));
    }
    let in_step = group.live().all(|at| group.sequences[at].behind() == 1);
    for at in group.live() {
        match group.sequences[at].behind() {
            1 if in_step || !beams => each(at, Next::Token),
            behind => each(at, Next::Context(behind - held_back)),
        }
    }
}

/// Cuts what each wants to what those before it leave.
fn first_come_first_served(chunks: &mut [Share], mut left: usize) {
    for chunk in chunks {
        chunk.tokens = chunk.tokens.min(left);
        left -= chunk.tokens;
    }
}

/// Gives each as much of `left` as the others, or all that it wants. What can't be divided goes to others
/// in the next iteration.
fn equal_progress(chunks: &mut [Share], mut left: usize, iteration: u64) {
    let wanted = |(at, chunk): (usize, &mut Share)| (at, std::mem::take(&mut chunk.tokens));
    let mut wanting: Vec<(usize, usize)> = chunks.iter_mut().enumerate().map(wanted).collect();
    let first = iteration % wanting.len().max(1) as u64;
    wanting.rotate_left(first as usize);
    while left > 0 && !wanting.is_empty() {
        let each = (left / wanting.len()).max(1);
        wanting.retain(|&(at, wanted)| {
            let tokens = &mut chunks[at].tokens;
            let more = each.min(wanted - *tokens).min(left);
            *tokens += more;
            left -= more;
            *tokens < wanted
        });
    }
}
