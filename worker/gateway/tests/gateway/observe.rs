//! The metrics' port: what is told beside metrics.

use serde_json::json;
use shardrun_wire::{BlockHash, IterationStats, KvEvent, KvEventData, StoredBlock};

use crate::client::{get, post, send};
use crate::server::Server;

#[tokio::test]
async fn iterations_are_told_once() {
    let server = Server::start_loading().await;
    let iteration = |iter| IterationStats { iter, iter_latency_ms: 1.5, ..Default::default() };
    *server.engine.iterations.lock().unwrap() = vec![iteration(1), iteration(2)];
    let reply = get(server.metrics, "/iteration_stats").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let told = reply.json();
    assert_eq!((told[0]["iter"].as_u64(), told[1]["iter"].as_u64()), (Some(1), Some(2)));
    assert_eq!(told[0]["iterLatencyMS"], 1.5);
    assert_eq!(get(server.metrics, "/iteration_stats").await.body, "[]");
}

#[tokio::test]
async fn cache_events_are_as_in_the_reference() {
    let server = Server::start_loading().await;
    let hash = |n| BlockHash(u64::MAX - n);
    *server.engine.kv_events.lock().unwrap() = [
        KvEventData::Created { num_blocks_per_cache_level: vec![100] },
        KvEventData::Stored {
            parent_hash: None,
            blocks: vec![StoredBlock {
                block_hash: hash(0),
                tokens: vec![7, 8],
                cache_level: 0,
                priority: 35,
            }],
        },
        KvEventData::Stored { parent_hash: Some(hash(0)), blocks: vec![] },
        KvEventData::Removed { block_hashes: vec![hash(0), hash(1)] },
        KvEventData::Updated { block_hash: hash(1), priority_old: 35, priority_new: 80 },
    ]
    .into_iter()
    .zip(5..)
    .map(|(data, event_id)| KvEvent { event_id, data })
    .collect();
    let expected = json!([
        {"event_id": 5, "data": {"type": "created", "num_blocks_per_cache_level": [100]}},
        {"event_id": 6, "data": {"type": "stored", "parent_hash": null, "blocks": [{
            "type": "stored_block",
            "block_hash": u64::MAX,
            "tokens": [
                {"type": "unique_token", "token_id": 7, "token_extra_id": 0},
                {"type": "unique_token", "token_id": 8, "token_extra_id": 0},
            ],
            "cache_level": 0,
            "priority": 35,
        }]}},
        {"event_id": 7, "data": {"type": "stored", "parent_hash": u64::MAX, "blocks": []}},
        {"event_id": 8, "data": {"type": "removed", "block_hashes": [u64::MAX, u64::MAX - 1]}},
        {"event_id": 9, "data": {
            "type": "updated",
            "block_hash": u64::MAX - 1,
            "cache_level": null,
            "priority": {"type": "event_diff", "new_value": 80, "old_value": 35},
        }},
    ]);
    assert_eq!(post(server.metrics, "/kv_cache_events", "").await.json(), expected);
    assert_eq!(post(server.metrics, "/kv_cache_events", "{}").await.body, "[]");
}

#[tokio::test]
async fn each_has_its_method_and_its_port() {
    let server = Server::start_loading().await;
    for head in ["POST /iteration_stats", "GET /kv_cache_events"] {
        assert_eq!(send(server.metrics, head, b"").await.status, 405, "{head}");
    }
    for path in ["/iteration_stats", "/kv_cache_events"] {
        assert_eq!(get(server.http, path).await.status, 404, "{path}");
    }
}
