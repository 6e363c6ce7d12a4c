mod audit;
mod events;
mod model;
mod retention;
mod reuse;
mod transitions;

use super::*;

/// Tokens of a block in these tests.
const SIZE: usize = 4;

fn config(blocks: u32) -> KvCacheConfig {
    KvCacheConfig {
        blocks,
        tokens_per_block: SIZE,
        reuse: true,
        partial_reuse: true,
        event_buffer: 0,
    }
}

fn cache(blocks: u32) -> KvCache {
    KvCache::new(config(blocks))
}

fn tenant(salt: &str) -> Root {
    Root { adapter: 0, salt: Some(salt.to_owned()) }
}

fn retention(priority: u8) -> BlockRetention {
    BlockRetention {
        priority: shardrun_wire::RetentionPriority(priority),
        ..BlockRetention::default()
    }
}

/// Takes and commits blocks for all of `tokens`, a whole number of blocks.
fn compute(cache: &mut KvCache, root: &Root, tokens: &[u32]) -> Vec<(BlockId, Node)> {
    let mut parent = None;
    let step = |block_tokens: &[u32]| {
        let block = cache.take().unwrap();
        let node =
            cache.commit(root, parent, block, block_tokens, BlockRetention::default()).unwrap();
        parent = Some(node);
        (block, node)
    };
    tokens.chunks(SIZE).map(step).collect()
}

fn found(cache: &KvCache, root: &Root, tokens: &[u32]) -> Prefix {
    let mut prefix = Prefix::default();
    cache.find(root, tokens, &mut prefix);
    prefix
}
