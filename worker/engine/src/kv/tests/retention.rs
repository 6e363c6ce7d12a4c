//! Which block is evicted first.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A cache full of idle blocks with these retentions, released in this order.
fn idle(retentions: &[BlockRetention]) -> KvCache {
    let mut cache = cache(retentions.len() as u32);
    for (token, &retention) in retentions.iter().enumerate() {
        let block = cache.take().unwrap();
        cache.commit(&Root::default(), None, block, &[token as u32; SIZE], retention).unwrap();
    }
    (0..retentions.len() as u32).for_each(|block| cache.release(BlockId(block)));
    cache
}

/// The order in which all blocks go.
fn order(mut cache: KvCache) -> Vec<u32> {
    std::iter::from_fn(|| cache.take()).map(|block| block.0).collect()
}

fn of_second(priority: u8) -> BlockRetention {
    BlockRetention { duration: Some(SECOND), ..retention(priority) }
}

#[test]
fn the_lowest_priority_goes_first_and_within_it_the_oldest() {
    let retentions = [35, 100, 0, 35, 0].map(retention);
    assert_eq!(order(idle(&retentions)), [2, 4, 0, 3, 1]);
}

#[test]
fn a_block_that_was_used_again_goes_later() {
    let mut cache = idle(&[35, 35, 35].map(retention));
    cache.hold(BlockId(0));
    cache.release(BlockId(0));
    assert_eq!(order(cache), [1, 2, 0]);
}

#[test]
fn children_go_before_their_dearer_and_their_cheaper_parents() {
    // Of the parent and the child; the third block has 60.
    for (priorities, expected) in [([50, 0], [1, 0, 2]), ([0, 70], [2, 1, 0])] {
        let mut cache = cache(3);
        let root = Root::default();
        let blocks = [(); 3].map(|()| cache.take().unwrap());
        let [parent, child] = priorities.map(retention);
        let node = cache.commit(&root, None, blocks[0], &[1; SIZE], parent);
        cache.commit(&root, node, blocks[1], &[2; SIZE], child).unwrap();
        cache.commit(&root, None, blocks[2], &[3; SIZE], retention(60)).unwrap();
        blocks.into_iter().for_each(|block| cache.release(block));
        assert_eq!(order(cache), expected);
    }
}

#[test]
fn a_parent_comes_back_at_the_place_of_its_release() {
    let mut cache = cache(3);
    let own = compute(&mut cache, &Root::default(), &[1, 1, 1, 1, 2, 2, 2, 2]);
    let other = compute(&mut cache, &Root::default(), &[3, 3, 3, 3]);
    // The child before the other, its parent after it.
    [own[1].0, other[0].0, own[0].0].into_iter().for_each(|block| cache.release(block));
    assert_eq!(order(cache), [1, 2, 0]);
}

#[test]
fn after_its_time_a_block_has_the_default_priority_and_is_the_newest() {
    let retentions = [of_second(90), of_second(0), retention(35), retention(36)];
    let almost = SECOND - Duration::from_nanos(1);
    for (now, expected) in [(almost, [1, 2, 3, 0]), (SECOND, [2, 0, 1, 3])] {
        let mut cache = idle(&retentions);
        cache.advance(now);
        assert_eq!(order(cache), expected, "after {now:?}");
    }
}

#[test]
fn the_time_starts_when_the_last_holder_lets_go() {
    let mut cache = cache(1);
    let block = cache.take().unwrap();
    cache.commit(&Root::default(), None, block, &[1; SIZE], of_second(90)).unwrap();
    cache.hold(block);
    cache.advance(SECOND * 10);
    cache.release(block);
    cache.advance(SECOND * 20);
    assert_eq!(cache.idle.retention(block), of_second(90), "still held");
    cache.release(block);
    cache.advance(SECOND * 21);
    assert_eq!(cache.idle.retention(block), BlockRetention::default());
}

#[test]
fn a_block_that_is_held_again_starts_its_time_anew() {
    let mut cache = idle(&[of_second(90)]);
    cache.advance(SECOND / 2);
    cache.hold(BlockId(0));
    cache.advance(SECOND * 5);
    cache.release(BlockId(0));
    cache.advance(SECOND * 6 - Duration::from_nanos(1));
    assert_eq!(cache.idle.retention(BlockId(0)), of_second(90));
    cache.advance(SECOND * 6);
    assert_eq!(cache.idle.retention(BlockId(0)), BlockRetention::default());
}

#[test]
fn a_retention_changes_the_place_of_an_idle_block_and_of_no_other() {
    let mut cache = idle(&[35, 35].map(retention));
    cache.set_retention(BlockId(0), of_second(36));
    cache.advance(SECOND / 2);
    cache.set_retention(BlockId(0), retention(36));
    cache.advance(SECOND * 5);
    assert_eq!(order(cache), [1, 0], "a new retention ends the old one's time");
    let mut cache = super::cache(1);
    let block = cache.take().unwrap();
    cache.set_retention(block, retention(90));
    cache.commit(&Root::default(), None, block, &[1; SIZE], retention(10)).unwrap();
    assert_eq!(cache.idle.retention(block), retention(10), "outside the tree there is none");
}

#[test]
fn of_equal_blocks_the_dearer_retention_counts() {
    let mut cache = cache(2);
    let [(block, _)] = compute(&mut cache, &Root::default(), &[1; SIZE])[..] else { panic!() };
    let equal = cache.take().unwrap();
    for (given, kept) in [
        (retention(20), retention(35)),
        (of_second(35), retention(35)),
        (of_second(80), of_second(80)),
        (retention(80), retention(80)),
    ] {
        cache.commit(&Root::default(), None, equal, &[1; SIZE], given).unwrap();
        assert_eq!(cache.idle.retention(block), kept);
    }
}

#[test]
fn time_has_no_end_and_does_not_go_back() {
    let forever = BlockRetention { duration: Some(Duration::MAX), ..retention(50) };
    let mut cache = cache(2);
    let own = compute(&mut cache, &Root::default(), &[1, 1, 1, 1, 2, 2, 2, 2]);
    cache.set_retention(own[0].0, forever);
    cache.set_retention(own[1].0, of_second(90));
    cache.advance(SECOND * 10);
    cache.advance(SECOND * 5);
    own.iter().for_each(|own| cache.release(own.0));
    cache.advance(SECOND * 10 + SECOND / 2);
    assert_eq!(cache.idle.retention(own[1].0), of_second(90));
    cache.advance(Duration::MAX);
    assert_eq!(cache.idle.retention(own[1].0), BlockRetention::default());
    assert_eq!(cache.idle.retention(own[0].0), forever);
}
