//! Every way of a block from one state to another.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;

const TOKENS: [u32; 4] = [1, 2, 3, 4];

#[test]
fn a_free_block_is_taken_and_released() {
    let mut cache = cache(2);
    let block = cache.take().unwrap();
    assert_eq!(block, BlockId(0), "low blocks come first");
    assert_eq!((cache.total(), cache.held(), cache.free()), (2, 1, 1));
    assert!(cache.writable(block));
    cache.release(block);
    assert_eq!((cache.held(), cache.free()), (0, 2));
}

#[test]
fn none_can_be_taken_when_all_are_held() {
    let mut cache = cache(1);
    let block = cache.take().unwrap();
    assert_eq!(cache.take(), None);
    cache.release(block);
    assert_eq!(cache.take(), Some(block));
}

#[test]
fn a_block_of_two_is_free_after_the_second() {
    let mut cache = cache(1);
    let block = cache.take().unwrap();
    cache.hold(block);
    assert!(!cache.writable(block), "another would see it");
    cache.release(block);
    assert!(cache.writable(block));
    assert_eq!(cache.free(), 0);
    cache.release(block);
    assert_eq!(cache.free(), 1);
}

#[test]
fn a_committed_block_is_not_written() {
    let mut cache = cache(1);
    let [(block, _)] = compute(&mut cache, &Root::default(), &TOKENS)[..] else { panic!() };
    assert!(!cache.writable(block));
    assert_eq!((cache.held(), cache.free()), (1, 0), "its holder still holds it");
}

#[test]
fn a_released_block_of_the_tree_is_idle_and_can_be_held_again() {
    let mut cache = cache(1);
    let [(block, node)] = compute(&mut cache, &Root::default(), &TOKENS)[..] else { panic!() };
    cache.release(block);
    assert_eq!((cache.held(), cache.free()), (0, 1), "idle blocks count as free");
    let prefix = found(&cache, &Root::default(), &TOKENS);
    let expected = Prefix { blocks: vec![block], tokens: 4, node: Some(node), idle: 1 };
    assert_eq!(prefix, expected);
    cache.hold(block);
    assert_eq!(cache.free(), 0);
    assert_eq!(found(&cache, &Root::default(), &TOKENS).idle, 0);
    assert_eq!(cache.take(), None, "held again, it can't be evicted");
}

#[test]
fn an_idle_block_is_evicted_when_no_block_is_free() {
    let mut cache = cache(2);
    let [(block, node)] = compute(&mut cache, &Root::default(), &TOKENS)[..] else { panic!() };
    cache.release(block);
    assert_ne!(cache.take(), Some(block), "free ones go first");
    assert_eq!(cache.take(), Some(block));
    assert!(cache.writable(block));
    assert_eq!(found(&cache, &Root::default(), &TOKENS), Prefix::default());
    let stale = cache.commit(&Root::default(), Some(node), block, &TOKENS, retention(35));
    assert_eq!(stale, None, "its place is gone");
}

#[test]
fn a_node_is_stale_even_when_its_block_is_back_in_the_tree() {
    let mut cache = cache(2);
    let [(block, before)] = compute(&mut cache, &Root::default(), &TOKENS)[..] else { panic!() };
    cache.release(block);
    let other = cache.take().unwrap();
    let [(again, after)] = compute(&mut cache, &Root::default(), &TOKENS)[..] else { panic!() };
    assert_eq!(again, block);
    assert_ne!(before, after);
    assert_eq!(cache.commit(&Root::default(), Some(before), other, &[9; 4], retention(35)), None);
    assert!(
        cache.commit(&Root::default(), Some(after), other, &[9; 4], retention(35)).is_some(),
        "the new name is good"
    );
}

#[test]
fn a_sequence_is_evicted_from_its_end_and_the_oldest_one_first() {
    for backwards in [false, true] {
        let mut cache = cache(6);
        let mut blocks = Vec::new();
        for first in [10, 20] {
            let tokens: Vec<u32> = (first..first + 12).collect();
            let mut own: Vec<_> =
                compute(&mut cache, &Root::default(), &tokens).iter().map(|own| own.0).collect();
            blocks.extend(own.iter().rev().copied());
            if backwards {
                own.reverse();
            }
            own.into_iter().for_each(|block| cache.release(block));
        }
        let evicted: Vec<_> = (0..6).map(|_| cache.take().unwrap()).collect();
        assert_eq!(evicted, blocks, "however they were released");
    }
}

#[test]
fn what_comes_after_an_evicted_block_leaves_the_tree_with_it() {
    let mut cache = cache(4);
    let tokens: Vec<u32> = (0..16).collect();
    let own: Vec<_> =
        compute(&mut cache, &Root::default(), &tokens).iter().map(|own| own.0).collect();
    // The first and third have left the window; the fourth goes with its own sequence.
    [own[0], own[2], own[3]].into_iter().for_each(|block| cache.release(block));
    assert_eq!(cache.free(), 3);
    cache.set_retention(own[2], retention(100));
    cache.set_retention(own[3], retention(100));
    assert_eq!(cache.take(), Some(own[0]), "its only child is held");
    assert!(cache.writable(own[1]), "a held descendant is its holder's alone");
    assert_eq!(cache.free(), 2);
    assert_eq!(found(&cache, &Root::default(), &tokens), Prefix::default());
    assert!(cache.take().is_some() && cache.take().is_some() && cache.take().is_none());
    cache.release(own[1]);
    assert_eq!(cache.free(), 1);
}

#[test]
fn promises_are_counted_apart_from_blocks() {
    let mut cache = cache(3);
    assert!(cache.reserve(2));
    assert_eq!((cache.free(), cache.available()), (3, 1));
    assert!(!cache.reserve(2), "only one is left");
    assert_eq!(cache.available(), 1);
    assert!(cache.reserve(1));
    cache.unreserve(3);
    assert_eq!(cache.available(), 3);
}

#[test]
fn idle_blocks_can_be_promised() {
    let mut cache = cache(1);
    let [(block, _)] = compute(&mut cache, &Root::default(), &TOKENS)[..] else { panic!() };
    assert!(!cache.reserve(1));
    cache.release(block);
    assert!(cache.reserve(1));
}

#[test]
fn without_reuse_nothing_is_found() {
    let mut cache = KvCache::new(KvCacheConfig { reuse: false, event_buffer: 5, ..config(2) });
    let block = cache.take().unwrap();
    assert_eq!(cache.commit(&Root::default(), None, block, &TOKENS, retention(35)), None);
    assert!(cache.writable(block));
    assert_eq!(found(&cache, &Root::default(), &TOKENS), Prefix::default());
    let mut events = Vec::new();
    cache.take_events(&mut events);
    assert_eq!(events, []);
}

#[test]
fn a_warm_cache_grows_no_array() {
    let mut cache = cache(64);
    let mut held = VecDeque::new();
    let capacities = |cache: &KvCache| (cache.free.capacity(), cache.idle.capacities());
    let before = capacities(&cache);
    let mut parent = None;
    for step in 0..10_000_u32 {
        let block = cache.take().unwrap();
        let start = if step % 10 == 0 { None } else { parent };
        parent = cache.commit(&Root::default(), start, block, &[step; SIZE], retention(35));
        let duration = Some(Duration::from_secs(1));
        cache.set_retention(block, BlockRetention { duration, ..retention(step as u8 % 80) });
        held.push_back(block);
        if held.len() > 20 {
            cache.release(held.pop_front().unwrap());
        }
        cache.advance(Duration::from_millis(u64::from(step) * 40));
    }
    assert_eq!(capacities(&cache), before);
}
