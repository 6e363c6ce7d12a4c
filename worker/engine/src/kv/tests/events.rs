//! What is told of cached blocks.

use std::time::Duration;

use shardrun_wire::{BlockHash, KvEvent, KvEventData, StoredBlock};

use super::*;

fn loud(blocks: u32, event_buffer: usize) -> KvCache {
    KvCache::new(KvCacheConfig { event_buffer, ..config(blocks) })
}

fn taken(cache: &mut KvCache) -> Vec<KvEventData> {
    let mut events = Vec::new();
    cache.take_events(&mut events);
    events.into_iter().map(|event| event.data).collect()
}

fn stored(parent_hash: Option<BlockHash>, block_hash: BlockHash, tokens: &[u32]) -> KvEventData {
    let tokens = tokens.to_vec();
    let block = StoredBlock { block_hash, tokens, cache_level: 0, priority: 35 };
    KvEventData::Stored { parent_hash, blocks: vec![block] }
}

#[test]
fn each_change_is_told_in_order() {
    let mut cache = loud(2, 100);
    let root = tenant("one");
    let own = compute(&mut cache, &root, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let first = BlockHash::of(BlockHash::root(0, "one"), &[1, 2, 3, 4]);
    let second = BlockHash::of(first, &[5, 6, 7, 8]);
    assert_eq!(
        taken(&mut cache),
        [
            KvEventData::Created { num_blocks_per_cache_level: vec![2] },
            stored(None, first, &[1, 2, 3, 4]),
            stored(Some(first), second, &[5, 6, 7, 8]),
        ]
    );
    let brief = BlockRetention { duration: Some(Duration::from_secs(1)), ..retention(60) };
    cache.set_retention(own[1].0, brief);
    cache.set_retention(own[1].0, brief);
    own.iter().for_each(|own| cache.release(own.0));
    cache.advance(Duration::from_secs(1));
    let updated = |priority_old, priority_new| KvEventData::Updated {
        block_hash: second,
        priority_old,
        priority_new,
    };
    assert_eq!(taken(&mut cache), [updated(35, 60), updated(60, 35)]);
    assert!(cache.take().is_some() && cache.take().is_some());
    let removed = |hash| KvEventData::Removed { block_hashes: vec![hash] };
    assert_eq!(taken(&mut cache), [removed(second), removed(first)]);
}

#[test]
fn blocks_that_go_together_are_told_together() {
    let mut cache = loud(2, 100);
    let own = compute(&mut cache, &Root::default(), &[1, 2, 3, 4, 5, 6, 7, 8]);
    taken(&mut cache);
    let hashes = [own[1].0, own[0].0].map(|block| cache.tree.hash(block));
    cache.release(own[0].0);
    assert_eq!(cache.take(), Some(own[0].0));
    assert_eq!(taken(&mut cache), [KvEventData::Removed { block_hashes: hashes.to_vec() }]);
}

#[test]
fn the_oldest_are_lost_and_the_ids_show_it() {
    let mut cache = loud(8, 3);
    (0..5).for_each(|token| drop(compute(&mut cache, &Root::default(), &[token; 4])));
    let mut events = Vec::new();
    cache.take_events(&mut events);
    assert_eq!(events.iter().map(|event| event.event_id).collect::<Vec<_>>(), [3, 4, 5]);
    compute(&mut cache, &Root::default(), &[9; 4]);
    cache.take_events(&mut events);
    assert_eq!(events.last().map(|event| event.event_id), Some(6), "added to what was there");
    assert_eq!(events.len(), 4);
}

#[test]
fn a_cache_without_events_keeps_none() {
    let mut cache = loud(2, 0);
    compute(&mut cache, &Root::default(), &[1; 4]);
    let mut events: Vec<KvEvent> = Vec::new();
    cache.take_events(&mut events);
    assert_eq!((events.len(), events.capacity()), (0, 0));
}
