//! Which instance gets a request: pure.

use std::cmp::Reverse;
use std::collections::HashMap;

use shardrun_wire::{BlockHash, Request};

use super::recent::RecentBlocks;

/// How requests are shared out among the instances of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest tokens in flight: those of the prompts, and those that may still be
    /// generated. Of several, each in turn.
    LeastLoaded,
    /// The one that was lately given the longest part of the prompt, in whole blocks, unless it has
    /// more tokens in flight than the least loaded one, by over 2048 and the length of that part; then
    /// the least loaded one.
    PrefixAware,
}

/// How many more tokens than the least loaded instance one may have, and still get a request for what
/// it knows; the tokens that it knows come on top.
const PREFIX_MARGIN_TOKENS: u64 = 2048;

/// An instance that takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) instance: u32,
    /// Its tokens in flight.
    pub(super) load: u64,
}

/// Chooses, and remembers what it needs for the next choice.
#[derive(Debug)]
pub(super) struct Router {
    policy: Routing,
    tokens_per_block: usize,
    last: Option<u32>,
    recent: HashMap<u32, RecentBlocks>,
}

impl Router {
    pub(super) fn new(policy: Routing, tokens_per_block: usize) -> Self {
        let tokens_per_block = tokens_per_block.max(1);
        Self { policy, tokens_per_block, last: None, recent: HashMap::new() }
    }

    /// The hashes of a prompt's whole blocks, if they matter.
    pub(super) fn blocks(&self, request: &Request) -> Vec<BlockHash> {
        if self.policy != Routing::PrefixAware {
            return Vec::new();
        }
        let salt = request.cache_salt.as_deref().unwrap_or_default();
        let mut parent = BlockHash::root(0, salt);
        let blocks = request.prompt.chunks_exact(self.tokens_per_block).map(|tokens| {
            parent = BlockHash::of(parent, tokens);
            parent
        });
        blocks.collect()
    }

    /// The instance knows nothing yet: its cache is new.
    pub(super) fn fresh(&mut self, instance: u32) {
        self.recent.insert(instance, RecentBlocks::default());
    }

    pub(super) fn forget(&mut self, instance: u32) {
        self.recent.remove(&instance);
    }

    /// The instance, whose cache holds so many tokens, took a request with these blocks.
    pub(super) fn given(&mut self, instance: u32, blocks: &[BlockHash], cache_tokens: usize) {
        if let Some(recent) = self.recent.get_mut(&instance) {
            recent.give(blocks, cache_tokens / self.tokens_per_block);
        }
    }

    /// All candidates, the best first; the turn goes on from that one.
    pub(super) fn order(
        &mut self,
        mut candidates: Vec<Candidate>,
        blocks: &[BlockHash],
    ) -> Vec<u32> {
        let least = candidates.iter().map(|candidate| candidate.load).min().unwrap_or(0);
        let known = |candidate: &Candidate| {
            let recent = self.recent.get(&candidate.instance);
            let tokens = recent.map_or(0, |recent| recent.matched(blocks)) * self.tokens_per_block;
            let most = least + PREFIX_MARGIN_TOKENS + tokens as u64;
            if candidate.load <= most { tokens } else { 0 }
        };
        // Those after the last one come first in their turn.
        let turn = |candidate: &Candidate| {
            (self.last.is_some_and(|last| candidate.instance <= last), candidate.instance)
        };
        candidates.sort_by_cached_key(|candidate| match self.policy {
            Routing::RoundRobin => (Reverse(0), 0, turn(candidate)),
            Routing::LeastLoaded => (Reverse(0), candidate.load, turn(candidate)),
            Routing::PrefixAware => (Reverse(known(candidate)), candidate.load, turn(candidate)),
        });
        let order: Vec<u32> = candidates.iter().map(|candidate| candidate.instance).collect();
        self.last = order.first().copied().or(self.last);
        order
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
