//! What callers of a client see of requests.

use std::time::Duration;

use super::engine::LIMITS;
use super::*;
use crate::{
    BeamScore, BlockCounts, BlockHash, EngineClient, EngineState, Guide, InflightBatchingStats,
    IterationStats, KvCacheStats, KvEvent, KvEventData, Logits, LogitsOf, Refused, RequestAccount,
    RequestStage, RequestStats, Resumed, Search, StoredBlock, Wanted,
};

both_ways! {
    a_request_arrives_as_it_was_and_its_outputs_come_in_order,
    many_tokens_at_once_come_in_several_frames,
    refusals_come_back_as_they_are,
    what_can_not_be_sent_is_refused_by_the_client,
    clients_with_equal_ids_do_not_meet,
    a_cancel_before_the_engine_has_answered_is_kept,
    a_submission_that_nobody_waits_for_is_cancelled,
    a_request_goes_on_where_an_earlier_engine_ended,
    what_the_engine_is_like_reaches_clients,
    statistics_and_events_come_back_as_they_are,
}

async fn a_request_arrives_as_it_was_and_its_outputs_come_in_order(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut asked = request(7, 10);
    asked.search = Search::Sample { sequences: 2 };
    asked.wanted = Wanted { log_probs: true, context_logits: true, generation_logits: true };
    asked.guide = Some(Guide::Regex("a+".into()));
    asked.timeout = Some(Duration::from_millis(1500));
    asked.embedding_bias = vec![(3, -1.5)];
    asked.cache_salt = Some("tenant".into());
    let mut stream = soon(client.submit(asked.clone())).await.unwrap();
    let (mut got, sink) = soon(served.said.submitted.recv()).await.unwrap();
    assert!(got.id.0 >= 1 << 63);
    got.id = asked.id;
    assert_eq!(got, asked);

    let of_prompt = Logits {
        of: LogitsOf::Context { position: 0 },
        values: (0..3 * LIMITS.vocab_size).map(|n| n as f32).collect(),
    };
    let of_token = Logits {
        of: LogitsOf::Generation { sequence: 1, index: 0 },
        values: (0..LIMITS.vocab_size).map(|n| -(n as f32)).collect(),
    };
    sink.logits(of_prompt.clone());
    sink.logits(of_token.clone());
    sink.push(1, 42, -0.25);
    sink.publish();
    let mut next = async || soon(stream.next()).await;
    assert_eq!(next().await, Some(Output::Logits(of_prompt)));
    assert_eq!(next().await, Some(Output::Logits(of_token)));
    let tokens = Tokens { sequence: 1, index: 0, tokens: vec![42], log_probs: vec![-0.25] };
    assert_eq!(next().await, Some(Output::Tokens(tokens)));
    let blocks = BlockCounts { alloc_total: 4, alloc_new: 3, reused: 1, missed: 2 };
    let end = Finished {
        sequence: 1,
        reason: FinishReason::Failed("why".into()),
        score: Some(BeamScore { score: -1.5, cum_log_prob: -3.0 }),
        account: Some(RequestAccount { arrival_ns: 5, blocks, ..RequestAccount::default() }),
    };
    sink.finish(finished(0));
    sink.finish(end.clone());
    sink.publish();
    assert_eq!(next().await, Some(Output::Finished(finished(0))));
    assert_eq!(next().await, Some(Output::Finished(end)));
    assert_eq!(next().await, None);
    assert!(stream.is_finished());
}

async fn many_tokens_at_once_come_in_several_frames(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut stream = soon(client.submit(request(1, 50_000))).await.unwrap();
    let (_, sink) = soon(served.said.submitted.recv()).await.unwrap();
    push(&sink, 0..50_000);
    finish(&sink);
    assert_eq!(read_all(&mut stream).await, ((0..50_000).collect(), true));
}

async fn refusals_come_back_as_they_are(way: Way) {
    let served = Served::start(way);
    let client = served.client().await;
    for refused in [
        Refused::QueueFull { limit: 3 },
        Refused::TooLong { prompt: 5, max_tokens: 6, limit: 7 },
        Refused::Invalid { field: "top_p".into(), value: "2".into(), allowed: "(0, 1]".into() },
        Refused::Loading,
    ] {
        *served.engine.refuse.lock().unwrap() = Some(refused.clone());
        assert_eq!(soon(client.submit(request(1, 1))).await.unwrap_err(), refused);
    }
    *served.engine.refuse.lock().unwrap() = None;
    let _stream = soon(client.submit(request(1, 1))).await.unwrap();
}

async fn what_can_not_be_sent_is_refused_by_the_client(way: Way) {
    let served = Served::start(way);
    let client = served.client().await;
    let mut long = request(1, 1);
    long.guide = Some(Guide::Grammar("x".repeat(9 << 20)));
    let refused = soon(client.submit(long)).await.unwrap_err().to_string();
    assert!(refused.ends_with("at most 8388608 bytes can be sent to the engine"), "{refused}");
    let _stream = soon(client.submit(request(1, 1))).await.unwrap();
    let refused = soon(client.submit(request(1, 1))).await.unwrap_err().to_string();
    assert_eq!(refused, "id is 1: a request of this id runs already");
}

async fn clients_with_equal_ids_do_not_meet(way: Way) {
    let mut served = Served::start(way);
    let (one, two) = (served.client().await, served.client().await);
    let mut of_one = soon(one.submit(request(5, 4))).await.unwrap();
    let mut of_two = soon(two.submit(request(5, 4))).await.unwrap();
    let (first, sink_one) = soon(served.said.submitted.recv()).await.unwrap();
    let (second, sink_two) = soon(served.said.submitted.recv()).await.unwrap();
    assert_ne!(first.id, second.id);
    push(&sink_one, [11]);
    push(&sink_two, [22]);
    assert_eq!(soon(of_one.next()).await, Some(tokens(0, &[11])));
    assert_eq!(soon(of_two.next()).await, Some(tokens(0, &[22])));
    two.cancel(RequestId(5));
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(second.id));
    one.cancel(RequestId(5));
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(first.id));
}

async fn a_cancel_before_the_engine_has_answered_is_kept(way: Way) {
    let mut served = Served::start(way);
    let client = Arc::new(served.client().await);
    served.engine.permits.forget_permits(1000);
    let submitter = client.clone();
    let submission = tokio::spawn(async move { submitter.submit(request(1, 1)).await });
    // A take behind the cancel comes back when the cancel was heard.
    tokio::task::yield_now().await;
    client.cancel(RequestId(1));
    assert!(soon(client.take_iterations()).await.is_empty());
    assert!(served.said.cancelled.is_empty());
    served.engine.permits.add_permits(1);
    let _stream = soon(submission).await.unwrap().unwrap();
    let (got, _sink) = soon(served.said.submitted.recv()).await.unwrap();
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(got.id));
}

async fn a_submission_that_nobody_waits_for_is_cancelled(way: Way) {
    let mut served = Served::start(way);
    let client = Arc::new(served.client().await);
    served.engine.permits.forget_permits(1000);
    let submitter = client.clone();
    let submission = tokio::spawn(async move { submitter.submit(request(1, 1)).await });
    tokio::task::yield_now().await;
    assert!(soon(client.take_iterations()).await.is_empty());
    submission.abort();
    served.engine.permits.add_permits(2);
    let (got, sink) = soon(served.said.submitted.recv()).await.unwrap();
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(got.id));
    // What still comes for it harms nobody.
    push(&sink, [1]);
    finish(&sink);
    let mut stream = soon(client.submit(request(2, 1))).await.unwrap();
    let (_, sink) = soon(served.said.submitted.recv()).await.unwrap();
    push(&sink, [9]);
    assert_eq!(soon(stream.next()).await, Some(tokens(0, &[9])));
}

async fn a_request_goes_on_where_an_earlier_engine_ended(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut resumed = request(1, 10);
    resumed.search = Search::Sample { sequences: 2 };
    resumed.resume = vec![
        Resumed { tokens: vec![5, 6, 7], finished: false },
        Resumed { tokens: vec![5], finished: true },
    ];
    let mut stream = soon(client.submit(resumed.clone())).await.unwrap();
    let (got, sink) = soon(served.said.submitted.recv()).await.unwrap();
    assert_eq!(got.resume, resumed.resume);
    push(&sink, [8]);
    assert_eq!(soon(stream.next()).await, Some(tokens(3, &[8])));
    push(&sink, [9]);
    assert_eq!(soon(stream.next()).await, Some(tokens(4, &[9])));
    finish(&sink);
    assert_eq!(soon(stream.next()).await, Some(Output::Finished(finished(0))));
    assert_eq!(soon(stream.next()).await, None);
}

async fn what_the_engine_is_like_reaches_clients(way: Way) {
    let served = Served::start(way);
    *served.engine.limits.lock().unwrap() = None;
    *served.engine.state.lock().unwrap() = EngineState::Loading;
    let client = served.client().await;
    assert_eq!((client.state(), client.limits()), (EngineState::Loading, None));
    *served.engine.limits.lock().unwrap() = Some(LIMITS);
    *served.engine.state.lock().unwrap() = EngineState::Ready;
    until(|| (client.state(), client.limits()) == (EngineState::Ready, Some(LIMITS))).await;
    *served.engine.state.lock().unwrap() = EngineState::Draining;
    until(|| client.state() == EngineState::Draining).await;
}

async fn statistics_and_events_come_back_as_they_are(way: Way) {
    let served = Served::start(way);
    let client = served.client().await;
    let plain = IterationStats {
        timestamp: "11-22-2026 16:00:00.000001".into(),
        iter: 1,
        iter_latency_ms: 0.1 + 0.2,
        kv_cache_stats: Some(KvCacheStats { cache_hit_rate: 1.0 / 3.0, ..Default::default() }),
        inflight_batching_stats: Some(InflightBatchingStats::default()),
        ..IterationStats::default()
    };
    let of_request = RequestStats {
        id: RequestId(9),
        stage: RequestStage::GenerationInProgress,
        context_prefill_position: 3,
        num_generated_tokens: 4,
        avg_num_decoded_tokens_per_iter: 1.0,
        scheduled: true,
        paused: false,
        dis_serving_stats: None,
        alloc_total_blocks_per_request: 1,
        alloc_new_blocks_per_request: 1,
        reused_blocks_per_request: 0,
        missed_blocks_per_request: 0,
        kv_cache_hit_rate_per_request: 0.0,
    };
    let with_requests =
        IterationStats { iter: 2, request_stats: Some(vec![of_request; 3]), ..plain.clone() };
    let with_none = IterationStats { iter: 3, request_stats: Some(Vec::new()), ..plain.clone() };
    let mut iterations = vec![plain.clone(), with_requests, with_none];
    iterations.resize(1000, plain);
    *served.engine.iterations.lock().unwrap() = iterations.clone();
    assert_eq!(soon(client.take_iterations()).await, iterations);
    assert_eq!(soon(client.take_iterations()).await, []);

    let block = StoredBlock {
        block_hash: BlockHash::of(BlockHash::root(0, ""), &[1, 2]),
        tokens: vec![1, 2],
        cache_level: 0,
        priority: 35,
    };
    let hash = block.block_hash;
    let data = [
        KvEventData::Created { num_blocks_per_cache_level: vec![10] },
        KvEventData::Stored { parent_hash: None, blocks: vec![block] },
        KvEventData::Updated { block_hash: hash, priority_old: 35, priority_new: 100 },
        KvEventData::Removed { block_hashes: vec![hash] },
    ];
    let events: Vec<_> =
        (0..).zip(data).map(|(event_id, data)| KvEvent { event_id, data }).collect();
    *served.engine.events.lock().unwrap() = events.clone();
    assert_eq!(soon(client.take_kv_events()).await, events);
}
