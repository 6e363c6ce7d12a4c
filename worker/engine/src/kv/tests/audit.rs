//! What is true of a cache at all times.

use super::*;
use crate::kv::prefix_tree::Parent;

/// Checks the whole cache against itself, and against how many hold each block.
pub(super) fn audit(cache: &KvCache, holders: &[u32]) {
    assert_eq!(cache.holders, holders, "each block has its holders");
    let blocks = || (0..cache.total() as u32).map(BlockId);
    let mut free = vec![false; cache.total()];
    for block in &cache.free {
        assert!(!std::mem::replace(&mut free[block.index()], true), "{block:?} is free twice");
    }
    let mut held = 0;
    for block in blocks() {
        let states =
            [free[block.index()], holders[block.index()] > 0, cache.idle.key(block).is_some()];
        assert_eq!(states.iter().filter(|&&state| state).count(), 1, "{block:?}: {states:?}");
        held += usize::from(states[1]);
        if cache.tree.contains(block) {
            assert!(!free[block.index()], "{block:?} is free and in the tree");
            audit_place(cache, block);
        } else {
            assert!(!states[2], "{block:?} is idle and can't be found");
        }
        audit_queue(cache, block);
    }
    assert_eq!(cache.held(), held);
    assert_eq!(cache.free(), cache.total() - held);
    assert!(cache.reserved <= cache.free(), "a promise can't be kept");
    assert_eq!(cache.available(), cache.free() - cache.reserved);
    let cheapest = blocks()
        .filter(|&block| !has_idle_child(cache, block))
        .filter_map(|block| cache.idle.key(block).map(|key| (key, block)))
        .min();
    assert_eq!(cache.idle.cheapest(), cheapest.map(|(_, block)| block));
    assert_eq!(cheapest.is_none(), cache.free.len() == cache.free(), "an idle block is stuck");
}

/// A block in the tree hangs together with what is around it.
fn audit_place(cache: &KvCache, block: BlockId) {
    assert_eq!(cache.tree.by_hash(cache.tree.hash(block)), Some(block));
    let mut at = cache.tree.place(block);
    let siblings = cache.tree.children(at).filter(|&child| child == block).count();
    assert_eq!(siblings, 1, "{block:?} among its parent's children");
    let mut above = 0;
    while let Parent::Block(parent) = at {
        at = cache.tree.place(parent);
        above += 1;
        assert!(above < cache.total(), "{block:?} comes after itself");
    }
}

fn audit_queue(cache: &KvCache, block: BlockId) {
    let idle = cache.idle.key(block).is_some();
    assert_eq!(cache.idle.is_queued(block), idle && !has_idle_child(cache, block), "{block:?}");
    let timed = idle && cache.idle.retention(block).duration.is_some();
    assert_eq!(cache.idle.has_timer(block), timed, "{block:?}");
}

fn has_idle_child(cache: &KvCache, block: BlockId) -> bool {
    cache.tree.contains(block)
        && cache.tree.children(Parent::Block(block)).any(|child| cache.idle.key(child).is_some())
}
