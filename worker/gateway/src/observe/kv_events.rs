//! `/kv_cache_events`: what happened to cached blocks, as TensorRT-LLM writes it, for routers that
//! send requests to where their prefix is. Reading takes the events away.

use axum::Json;
use serde::Serialize;
use shardrun_wire::{BlockHash, KvEvent, KvEventData, StoredBlock};

use super::which::Which;

/// The events since the last call, oldest first.
pub(super) async fn kv_cache_events(Which(engine): Which) -> Json<Vec<Event>> {
    Json(engine.take_kv_events().await.into_iter().map(Event::from).collect())
}

#[derive(Serialize)]
pub(super) struct Event {
    event_id: u64,
    data: Data,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Data {
    Created { num_blocks_per_cache_level: Vec<u64> },
    Stored { parent_hash: Option<BlockHash>, blocks: Vec<Block> },
    Removed { block_hashes: Vec<BlockHash> },
    Updated { block_hash: BlockHash, cache_level: Option<Typed>, priority: Typed },
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "stored_block")]
struct Block {
    block_hash: BlockHash,
    tokens: Vec<Typed>,
    cache_level: u32,
    priority: u8,
}

/// The small objects in an event, which name their type, too.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Typed {
    UniqueToken { token_id: u32, token_extra_id: u64 },
    EventDiff { new_value: u8, old_value: u8 },
}

impl From<KvEvent> for Event {
    fn from(KvEvent { event_id, data }: KvEvent) -> Self {
        let data = match data {
            KvEventData::Created { num_blocks_per_cache_level } => {
                Data::Created { num_blocks_per_cache_level }
            }
            KvEventData::Stored { parent_hash, blocks } => {
                Data::Stored { parent_hash, blocks: blocks.into_iter().map(Block::from).collect() }
            }
            KvEventData::Removed { block_hashes } => Data::Removed { block_hashes },
            KvEventData::Updated { block_hash, priority_old, priority_new } => Data::Updated {
                block_hash,
                // Blocks don't change their level: there is one.
                cache_level: None,
                priority: Typed::EventDiff { new_value: priority_new, old_value: priority_old },
            },
        };
        Self { event_id, data }
    }
}

impl From<StoredBlock> for Block {
    fn from(block: StoredBlock) -> Self {
        let token = |token_id| Typed::UniqueToken { token_id, token_extra_id: 0 };
        Self {
            block_hash: block.block_hash,
            tokens: block.tokens.into_iter().map(token).collect(),
            cache_level: block.cache_level,
            priority: block.priority,
        }
    }
}
