//! How many tokens each sequence computes in an iteration.

use super::Scheduler;
use super::group::Group;
use super::pace::Load;

/// Who gets the tokens that an iteration has left for prompts, if they aren't enough for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkingPolicy {
    /// Those that started first.
    FirstComeFirstServed,
    /// All, a block at a time in turn.
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
        let running = running.map(|group| group.live().count()).sum();
        let left = left.min(self.pace.most_prompt_tokens(generating, running));
        let chunks = Chunks {
            running: &self.running,
            shares: &mut self.shares[generating..],
            block: self.config.kv_cache.tokens_per_block,
            left,
        };
        match self.config.chunking {
            ChunkingPolicy::FirstComeFirstServed => chunks.first_come_first_served(),
            ChunkingPolicy::EqualProgress => chunks.equal_progress(),
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

/// The sequences that compute what they had before, each with all that it wants.
struct Chunks<'a> {
    running: &'a [Group],
    shares: &'a mut [Share],
    block: usize,
    left: usize,
}

impl Chunks<'_> {
    fn first_come_first_served(mut self) {
        for at in 0..self.shares.len() {
            let wanted = self.shares[at].tokens;
            let mut tokens = wanted.min(self.left);
            if tokens < wanted {
                // Chunks end with a block, so that it can be shared early.
                let start = self.start(at);
                let end = (start + tokens) / self.block * self.block;
                tokens = if end > start { end - start } else { tokens };
            }
            self.shares[at].tokens = tokens;
            self.left -= tokens;
        }
    }

    fn equal_progress(mut self) {
        let wanted: Vec<usize> =
            self.shares.iter_mut().map(|share| std::mem::take(&mut share.tokens)).collect();
        loop {
            let before = self.left;
            for at in 0..self.shares.len() {
                let has = self.shares[at].tokens;
                let to_block_end = self.block - (self.start(at) + has) % self.block;
                let more = to_block_end.min(wanted[at] - has).min(self.left);
                self.shares[at].tokens += more;
                self.left -= more;
            }
            if self.left == before {
                return;
            }
        }
    }

    /// Position of a sequence's first token.
    fn start(&self, at: usize) -> usize {
        let Share { group, sequence, .. } = self.shares[at];
        self.running[group].sequences[sequence].computed
    }
}
