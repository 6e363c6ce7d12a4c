//! What sequences do with the KV cache: find their prefix, share, copy on write, grow, commit what
//! is whole, and let go of what has left their window.

use std::collections::HashSet;

use shardrun_wire::{BlockCounts, BlockHash, Request, Retention};

use super::SchedulerConfig;
use super::group::{Group, Sequence};
use crate::beam::BeamChoice;
use crate::kv::{BlockId, KvCache, Prefix, Root};

/// The cache with what the scheduler notes about it.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) kv: KvCache,
    bounds: Bounds,
    block: usize,
    reuse: bool,
    /// What [`Cache::find`] found.
    pub(super) prefix: Prefix,
    /// Prompt blocks that running requests are about to compute.
    producing: HashSet<BlockHash>,
    /// Of all requests since the start.
    pub(super) counts: BlockCounts,
    /// Prompt tokens found since the start.
    pub(super) reused_tokens: u64,
}

/// What the number of a sequence's blocks depends on.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    block: usize,
    window: Option<usize>,
    max_num_tokens: usize,
}

/// Blocks that a request holds at most at any time: a cache with fewer can't run it.
#[must_use]
pub(crate) fn most_blocks(request: &Request, config: &SchedulerConfig) -> usize {
    Bounds::new(config).most_blocks(request)
}

impl Bounds {
    fn new(config: &SchedulerConfig) -> Self {
        Self {
            block: config.kv_cache.tokens_per_block,
            window: config.attention_window,
            max_num_tokens: config.max_num_tokens,
        }
    }

    fn blocks_for(&self, prompt: usize, lengths: impl Iterator<Item = usize>) -> usize {
        if let Some(window) = self.window {
            // The window, a chunk, and a block that is cut at either end.
            let most = (window + self.max_num_tokens).div_ceil(self.block) + 2;
            return lengths.map(|len| len.div_ceil(self.block).min(most)).sum();
        }
        let shared = prompt / self.block;
        shared + lengths.map(|len| len.div_ceil(self.block).saturating_sub(shared)).sum::<usize>()
    }

    /// Leading blocks that the token after `computed` others doesn't see.
    fn out_of_sight(&self, computed: usize) -> usize {
        self.window.map_or(0, |window| (computed + 1).saturating_sub(window) / self.block)
    }

    fn most_blocks(&self, request: &Request) -> usize {
        // The keys and values of the last token are never read.
        let tokens = request.prompt.len() + request.max_tokens as usize - 1;
        let width = request.search.width() as usize;
        self.blocks_for(request.prompt.len(), std::iter::repeat_n(tokens, width))
    }
}

impl Cache {
    pub(super) fn new(config: &SchedulerConfig) -> Self {
        Self {
            kv: KvCache::new(config.kv_cache),
            bounds: Bounds::new(config),
            block: config.kv_cache.tokens_per_block,
            reuse: config.kv_cache.reuse,
            prefix: Prefix::default(),
            producing: HashSet::new(),
            counts: BlockCounts::default(),
            reused_tokens: 0,
        }
    }

    /// Blocks that sequences of these lengths hold at most, after a prompt that they share.
    pub(super) fn blocks_for(&self, prompt: usize, lengths: impl Iterator<Item = usize>) -> usize {
        self.bounds.blocks_for(prompt, lengths)
    }

    /// Blocks that a request holds at most at any time.
    pub(super) fn most_blocks(&self, request: &Request) -> usize {
        self.bounds.most_blocks(request)
    }

    /// Blocks that a request holds after its first step, with the prefix that was found.
    pub(super) fn blocks_for_first_step(&self, request: &Request) -> usize {
        let end = request.prompt.len().min(self.prefix.tokens + self.bounds.max_num_tokens);
        self.blocks_for(0, std::iter::once(end))
    }

    /// Looks for the beginning of `tokens`; what is found is in `prefix`.
    pub(super) fn find(&mut self, request: &Request, tokens: &[u32]) {
        self.kv.find(&root(request), reusable(request, tokens), &mut self.prefix);
    }

    /// Whole blocks in `prefix`.
    fn whole_found(&self) -> usize {
        self.prefix.tokens / self.block
    }

    /// The first block of `prefix` that the token after it still sees.
    fn first_seen(&self) -> usize {
        self.bounds.out_of_sight(self.prefix.tokens)
    }

    /// Takes from `room` what a request of at most `needed` blocks costs with the prefix that was found,
    /// if there is so much: found blocks that nobody holds cost as much as new ones. Part of the
    /// prefix is forgotten if there is room without it only.
    pub(super) fn claim(&mut self, needed: usize, room: &mut usize) -> bool {
        if self.cost(needed) > *room {
            // A block that is only partly of use costs one more than it saves, until it is copied.
            let whole = self.whole_found();
            self.prefix.blocks.truncate(whole);
            self.prefix.tokens = whole * self.block;
        }
        if self.cost(needed) > *room && self.bounds.window.is_some() {
            self.prefix.clear();
        }
        let cost = self.cost(needed);
        let fits = cost <= *room;
        if fits {
            *room -= cost;
        }
        fits
    }

    fn cost(&self, needed: usize) -> usize {
        let seen = &self.prefix.blocks[self.first_seen()..];
        let idle = seen.iter().filter(|&&block| self.kv.holders(block) == 0).count();
        self.beside_found(needed) + idle
    }

    /// The blocks that a request needs at most beside the found ones. With a window those are given
    /// back on the way, and don't count.
    pub(super) fn beside_found(&self, needed: usize) -> usize {
        match self.bounds.window {
            Some(_) => needed,
            None => needed.saturating_sub(self.whole_found()),
        }
    }

    /// Gives a group's first sequence what was found, to begin with.
    pub(super) fn adopt(&mut self, group: &mut Group) {
        let trunk = group.trunk();
        let whole = self.whole_found();
        let first = self.first_seen();
        let sequence = &mut group.sequences[trunk];
        for &block in &self.prefix.blocks[first..] {
            self.kv.hold(block);
        }
        sequence.left = first;
        sequence.blocks.extend_from_slice(&self.prefix.blocks);
        sequence.computed = self.prefix.tokens;
        (sequence.committed, sequence.node) = (whole, self.prefix.node);

        if group.request.retention != Retention::default() {
            for place in first..whole {
                let retention = group.retention((place + 1) * self.block - 1);
                self.kv.set_retention(self.prefix.blocks[place], retention);
            }
        }
        let sought = reusable(&group.request, &group.sequences[trunk].tokens).len() / self.block;
        for counts in [&mut group.counts, &mut self.counts] {
            counts.reused += whole as u64;
            counts.alloc_total += whole as u64;
            counts.missed += (sought - whole) as u64;
        }
        self.reused_tokens += self.prefix.tokens as u64;
    }

    /// Once the prompt is in the cache, gives all sequences of a group its blocks.
    pub(super) fn fork(&mut self, group: &mut Group) {
        let prompt = group.request.prompt.len();
        let (trunk, fresh) = (group.trunk(), group.is_fresh());
        if group.sequences[trunk].computed < prompt {
            return;
        }
        for at in 0..group.sequences.len() {
            if group.sequences[at].finished || group.sequences[at].is_forked() {
                continue;
            }
            let shared = group.sequences[trunk].blocks[..prompt.div_ceil(self.block)].to_vec();
            let from = &group.sequences[trunk];
            let (left, whole) = (from.left, prompt / self.block);
            // What the first sequence has committed beyond the prompt is its own.
            let (committed, node) = match from.committed <= whole {
                true => (from.committed, from.node),
                false => (whole, None),
            };
            for &block in &shared[left..] {
                self.kv.hold(block);
            }
            let sequence = &mut group.sequences[at];
            sequence.blocks.extend(shared);
            (sequence.left, sequence.committed, sequence.node) = (left, committed, node);
            // One that has no token yet while others have draws its first from the prompt's last.
            let known = if fresh { prompt } else { sequence.tokens.len() - 1 };
            sequence.computed = prompt.min(known);
        }
    }

    /// Makes the beams of a search what a step has chosen: each goes on where its parent was, whose
    /// blocks it shares.
    pub(super) fn follow(&mut self, group: &mut Group, choices: &[BeamChoice]) {
        let next: Vec<Sequence> = choices
            .iter()
            .enumerate()
            .map(|(at, choice)| {
                let parent = &group.sequences[choice.parent as usize];
                let own = &group.sequences[at];
                for &block in &parent.blocks[parent.left..] {
                    self.kv.hold(block);
                }
                let known = &own.blocks[..own.told];
                let same = known.iter().zip(&parent.blocks).take_while(|(a, b)| a == b).count();
                let mut next = Sequence { slot: own.slot, told: same, ..parent.clone() };
                next.tokens.push(choice.token);
                next
            })
            .collect();
        let live = next.len();
        let before: Vec<Sequence> = group.sequences.drain(..live).collect();
        group.sequences.splice(..0, next);
        for sequence in before {
            self.release_all(group, &sequence);
        }
        // Fewer go on if too few tokens could be chosen.
        for at in live..group.sequences.len() {
            group.sequences[at].finished = true;
        }
    }

    fn release_all(&mut self, group: &mut Group, sequence: &Sequence) {
        for &block in sequence.blocks[sequence.left..].iter().rev() {
            self.release(group, block);
        }
    }

    /// New blocks that the next step of a group takes.
    pub(super) fn blocks_for_step(&self, group: &Group) -> usize {
        let grown = |sequence: &Sequence| {
            let end = sequence.computed + sequence.behind().min(self.bounds.max_num_tokens);
            end.div_ceil(self.block).saturating_sub(sequence.blocks.len())
        };
        if !group.is_forked() {
            let sequence = &group.sequences[group.trunk()];
            return grown(sequence) + usize::from(self.written_to(sequence).is_some());
        }
        let live = || group.live().map(|at| &group.sequences[at]);
        let mut blocks: usize = live().map(grown).sum();
        for sequence in live() {
            let Some(block) = self.written_to(sequence) else { continue };
            blocks += 1;
            // The last of those that share a block has it for itself.
            let sharing = |other: &&Sequence| self.written_to(other) == Some(block);
            let first = live().find(sharing).is_some_and(|first| std::ptr::eq(first, sequence));
            let only_ours = self.kv.holders(block) as usize == live().filter(sharing).count();
            blocks -= usize::from(first && only_ours && !self.kv.is_cached(block));
        }
        blocks
    }

    /// The block that a sequence's next token goes to, if it must be copied for that.
    fn written_to(&self, sequence: &Sequence) -> Option<BlockId> {
        let &block = sequence.blocks.get(sequence.computed / self.block)?;
        (!self.kv.writable(block)).then_some(block)
    }

    /// Gives a sequence the blocks that its next `tokens` need. A shared one that they are written
    /// to is copied first.
    pub(super) fn extend(
        &mut self,
        group: &mut Group,
        at: usize,
        tokens: usize,
        copies: &mut Vec<(u32, u32)>,
    ) {
        let written = self.written_to(&group.sequences[at]);
        if let Some(from) = written {
            let to = self.take(group);
            copies.push((from.0, to.0));
            self.release(group, from);
            let sequence = &mut group.sequences[at];
            let place = sequence.computed / self.block;
            sequence.blocks[place] = to;
            sequence.told = sequence.told.min(place);
        }
        let end = group.sequences[at].computed + tokens;
        while group.sequences[at].blocks.len() * self.block < end {
            let block = self.take(group);
            group.sequences[at].blocks.push(block);
        }
    }

    fn take(&mut self, group: &mut Group) -> BlockId {
        if group.promised > 0 {
            group.promised -= 1;
            self.kv.unreserve(1);
        }
        for counts in [&mut group.counts, &mut self.counts] {
            counts.alloc_total += 1;
            counts.alloc_new += 1;
        }
        self.kv.take().expect("a group steps only if there is room")
    }

    /// Gives one block back while the group goes on. What that makes free stays promised to it, as far
    /// as it may still need it.
    fn release(&mut self, group: &mut Group, block: BlockId) {
        let before = self.kv.free();
        self.kv.release(block);
        let freed = self.kv.free() > before;
        if group.reserves && freed && group.promised < self.most_blocks(&group.request) {
            let reserved = self.kv.reserve(1);
            group.promised += usize::from(reserved);
        }
    }

    /// Offers the blocks that a sequence has filled to the prefix tree.
    pub(super) fn commit(&mut self, group: &mut Group, at: usize) {
        if !self.reuse {
            return;
        }
        while (group.sequences[at].committed + 1) * self.block <= group.sequences[at].computed {
            let sequence = &group.sequences[at];
            let place = sequence.committed;
            let span = place * self.block..(place + 1) * self.block;
            let node = match (place, sequence.node) {
                // What comes before isn't in the tree.
                (1.., None) => None,
                (_, parent) => {
                    let retention = group.retention(span.end - 1);
                    let tokens = &sequence.tokens[span];
                    self.kv.commit(&group.root, parent, sequence.blocks[place], tokens, retention)
                }
            };
            let sequence = &mut group.sequences[at];
            sequence.node = node;
            sequence.committed += 1;
        }
    }

    /// Gives back what a sequence's next token no longer sees.
    pub(super) fn leave_window(&mut self, group: &mut Group, at: usize) {
        let sequence = &group.sequences[at];
        let (left, gone) = (sequence.left, self.bounds.out_of_sight(sequence.computed));
        for place in left..gone {
            let block = group.sequences[at].blocks[place];
            self.release(group, block);
        }
        group.sequences[at].left = gone.max(left);
    }

    /// Forgets what running requests are about to compute.
    pub(super) fn expect_nothing(&mut self) {
        self.producing.clear();
    }

    /// Notes the prompt blocks that a running request is about to compute.
    pub(super) fn expect_from(&mut self, group: &Group) {
        let sequence = &group.sequences[group.trunk()];
        let prompt = &group.request.prompt;
        if self.reuse && sequence.computed < prompt.len() {
            let known = sequence.computed / self.block;
            self.producing.extend(hashes(&group.root, prompt, self.block).skip(known));
        }
    }

    /// Whether a running request is about to compute the block that comes after what was found.
    pub(super) fn will_find_more(&self, request: &Request) -> bool {
        if self.producing.is_empty() {
            return false;
        }
        let prompt = reusable(request, &request.prompt);
        let next = hashes(&root(request), prompt, self.block).nth(self.whole_found());
        next.is_some_and(|next| self.producing.contains(&next))
    }
}

/// Where a request's sequences begin in the prefix tree.
pub(super) fn root(request: &Request) -> Root {
    Root { adapter: 0, salt: request.cache_salt.clone() }
}

/// The part of a request's tokens that may be found in the cache: at least the last one is computed, and
/// all of them if the prompt's logits are wanted.
fn reusable<'a>(request: &Request, tokens: &'a [u32]) -> &'a [u32] {
    if request.wanted.context_logits { &[] } else { &tokens[..tokens.len() - 1] }
}

/// The hashes of the whole blocks of `tokens`.
fn hashes<'a>(
    root: &Root,
    tokens: &'a [u32],
    block: usize,
) -> impl Iterator<Item = BlockHash> + use<'a> {
    let mut hash = BlockHash::root(root.adapter, root.salt.as_deref().unwrap_or_default());
    tokens.chunks_exact(block).map(move |tokens| {
        hash = BlockHash::of(hash, tokens);
        hash
    })
}
