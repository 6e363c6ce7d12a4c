//! What is found, and what is not.

use super::super::prefix_tree::MAX_CHILDREN_COMPARED;
use super::*;

#[test]
fn the_longest_whole_prefix_is_found() {
    let mut cache = KvCache::new(KvCacheConfig { partial_reuse: false, ..config(8) });
    let own = compute(&mut cache, &Root::default(), &[1, 2, 3, 4, 5, 6, 7, 8]);
    let prefix = found(&cache, &Root::default(), &[1, 2, 3, 4, 5, 6, 7, 9, 9]);
    let expected = Prefix { blocks: vec![own[0].0], tokens: 4, node: Some(own[0].1), idle: 0 };
    assert_eq!(prefix, expected);
    assert_eq!(found(&cache, &Root::default(), &[1, 2, 3]), Prefix::default());
    let whole = found(&cache, &Root::default(), &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((whole.tokens, whole.node), (8, Some(own[1].1)));
}

#[test]
fn the_longest_beginning_of_a_block_is_found() {
    let mut cache = cache(8);
    let root = Root::default();
    let own = compute(&mut cache, &root, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let longer = cache.take().unwrap();
    cache.commit(&root, Some(own[0].1), longer, &[5, 6, 0, 0], retention(35)).unwrap();
    cache.release(longer);
    let prefix = found(&cache, &root, &[1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(prefix.blocks, [own[0].0, own[1].0]);
    assert_eq!((prefix.tokens, prefix.node, prefix.idle), (7, Some(own[0].1), 0));
    let prefix = found(&cache, &root, &[1, 2, 3, 4, 5, 6, 0, 9, 9]);
    assert_eq!((&prefix.blocks[1..], prefix.tokens, prefix.idle), (&[longer][..], 7, 1));
    let prefix = found(&cache, &root, &[1, 2, 3, 4, 5, 6]);
    assert_eq!((&prefix.blocks[1..], prefix.tokens), (&[longer][..], 6), "the newest of equals");
    let prefix = found(&cache, &root, &[1, 2, 3, 4, 6]);
    assert_eq!((prefix.blocks.len(), prefix.tokens), (1, 4), "not one token in common");
    let prefix = found(&cache, &root, &[1, 2]);
    let expected = Prefix { blocks: vec![own[0].0], tokens: 2, node: None, idle: 0 };
    assert_eq!(prefix, expected, "at the root");
}

#[test]
fn the_newest_children_are_compared_and_no_more_than_the_limit() {
    let mut cache = cache(MAX_CHILDREN_COMPARED as u32 + 1);
    let root = Root::default();
    for first in 0..=MAX_CHILDREN_COMPARED as u32 {
        compute(&mut cache, &root, &[first, 0, 0, 0]);
    }
    assert_eq!(found(&cache, &root, &[0, 0, 1]), Prefix::default(), "the oldest of too many");
    assert_eq!(found(&cache, &root, &[1, 0, 1]).tokens, 2);
    assert_eq!(found(&cache, &root, &[0, 0, 0, 0]).tokens, 4, "a whole one is found by its hash");
}

#[test]
fn nothing_is_found_from_another_root() {
    let mut cache = cache(8);
    let tokens = [1, 2, 3, 4];
    let roots = [
        Root::default(),
        Root { adapter: 7, salt: None },
        tenant("one"),
        tenant("two"),
        Root { adapter: 7, salt: Some("one".to_owned()) },
    ];
    for (count, root) in roots.iter().enumerate() {
        assert_eq!(found(&cache, root, &tokens), Prefix::default());
        let [(block, _)] = compute(&mut cache, root, &tokens)[..] else { panic!() };
        assert_eq!(block, BlockId(count as u32));
    }
    for (count, root) in roots.iter().enumerate() {
        assert_eq!(found(&cache, root, &tokens).blocks, [BlockId(count as u32)]);
    }
}

#[test]
fn a_collision_of_hashes_is_a_miss() {
    // No salt and an empty salt have the same hash and are not the same root.
    let (none, empty) = (Root::default(), tenant(""));
    let mut cache = cache(4);
    let [(block, _)] = compute(&mut cache, &none, &[1, 2, 3, 4])[..] else { panic!() };
    assert_eq!(found(&cache, &empty, &[1, 2, 3, 4]), Prefix::default());
    let other = cache.take().unwrap();
    assert_eq!(cache.commit(&empty, None, other, &[1, 2, 3, 4], retention(35)), None);
    assert!(cache.writable(other));
    // A sibling without a collision makes the root known, and still nothing of the other is found.
    let third = cache.take().unwrap();
    assert!(cache.commit(&empty, None, third, &[5, 6, 7, 8], retention(35)).is_some());
    assert_eq!(found(&cache, &empty, &[1, 2, 3, 4]), Prefix::default());
    assert_eq!(found(&cache, &none, &[1, 2, 3, 4]).blocks, [block]);
}

#[test]
fn an_equal_block_stays_outside_and_what_follows_goes_under_the_first() {
    let mut cache = cache(4);
    let root = Root::default();
    let [(first, node)] = compute(&mut cache, &root, &[1, 2, 3, 4])[..] else { panic!() };
    let second = cache.take().unwrap();
    let place = cache.commit(&root, None, second, &[1, 2, 3, 4], retention(35));
    assert_eq!(place, Some(node));
    assert!(cache.writable(second));
    let child = cache.take().unwrap();
    cache.commit(&root, place, child, &[5, 6, 7, 8], retention(35)).unwrap();
    assert_eq!(found(&cache, &root, &[1, 2, 3, 4, 5, 6, 7, 8]).blocks, [first, child]);
    cache.release(second);
    assert_eq!(cache.free(), 2, "the one that stayed outside is free at once");
}

#[test]
fn a_shared_block_is_committed_by_each_of_its_holders() {
    let mut cache = cache(2);
    let root = Root::default();
    let [(block, node)] = compute(&mut cache, &root, &[1, 2, 3, 4])[..] else { panic!() };
    cache.hold(block);
    assert_eq!(cache.commit(&root, None, block, &[1, 2, 3, 4], retention(35)), Some(node));
}

#[test]
fn a_root_is_forgotten_with_its_last_child() {
    let mut cache = cache(2);
    for tenants in 0..100 {
        let [(block, _)] = compute(&mut cache, &tenant(&tenants.to_string()), &[1; 4])[..] else {
            panic!()
        };
        cache.release(block);
    }
    assert!(cache.tree.root(&tenant("97")).is_none());
    assert!(cache.tree.root(&tenant("98")).is_some());
    assert!(cache.tree.root(&tenant("99")).is_some());
}

#[test]
fn what_a_prefix_held_before_is_gone() {
    let mut cache = cache(4);
    compute(&mut cache, &Root::default(), &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut prefix = found(&cache, &Root::default(), &[1, 2, 3, 4, 5, 6]);
    cache.find(&Root::default(), &[9], &mut prefix);
    assert_eq!(prefix, Prefix::default());
}
