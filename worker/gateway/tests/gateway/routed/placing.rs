//! Which instance gets a request, and waiting for one.

use std::sync::Arc;
use std::time::Duration;

use shardrun_gateway::{RouteConfig, Routing};
use shardrun_metrics::ModelLabel;
use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, FinishReason, IterationStats, KvEvent, KvEventData,
    Refused, RequestId,
};
use tokio::time::{Instant, sleep, timeout};

use super::deaths::{CONFIG, SharedLog, dying, long, restarting, routed};
use super::reader::Read;
use super::scripted::{Death, LIMITS, Scripted};

#[tokio::test(start_paused = true)]
async fn requests_wait_for_an_instance() {
    let log = SharedLog::default();
    let engine = Arc::new(routed(CONFIG));
    assert_eq!((engine.state(), engine.limits()), (EngineState::Loading, None));
    assert_eq!(engine.submit(long(1)).await.unwrap_err(), Refused::Loading, "how large may it be?");
    let engine = Arc::new(restarting(CONFIG));
    assert_eq!((engine.state(), engine.limits()), (EngineState::Loading, Some(LIMITS)));
    let submit = |id| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.submit(long(id)).await })
    };
    let waiting = [1, 2, 3].map(submit);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(engine.counts(ModelLabel::plain()).waiting, 3);
    let refused = engine.submit(long(4)).await.unwrap_err();
    assert_eq!(refused, Refused::QueueFull { limit: 3 });
    // Loading: it is attached a little early.
    let scripted = Scripted::healthy(&log);
    scripted.set_state(EngineState::Loading);
    engine.attach(0, scripted.clone());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.counts(ModelLabel::plain()).waiting, 3);
    assert_eq!(engine.state(), EngineState::Loading);
    scripted.set_state(EngineState::Ready);
    for (submitted, id) in waiting.into_iter().zip(1..) {
        Read::all(&long(id), submitted.await.unwrap().unwrap()).await.is_whole();
    }
    let counts = engine.counts(ModelLabel::plain());
    assert_eq!((counts.waiting, counts.resubmitted, counts.instances_ready), (0, 0, 1));
    assert_eq!(engine.state(), EngineState::Ready);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_can_end_in_every_way() {
    let log = SharedLog::default();
    let queue_timeout = Some(Duration::from_secs(5));
    let engine = Arc::new(restarting(RouteConfig { queue_timeout, ..CONFIG }));
    let submit = |request| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.submit(request).await })
    };
    let begin = Instant::now();
    let mut short = long(1);
    short.timeout = Some(Duration::from_secs(2));
    let ends = [
        (short, FinishReason::TimedOut),
        (long(2), FinishReason::Cancelled),
        (long(3), FinishReason::Expired),
    ];
    let waiting = ends.map(|(request, reason)| (submit(request.clone()), request, reason));
    sleep(Duration::from_secs(1)).await;
    engine.cancel(RequestId(2));
    for (submitted, request, reason) in waiting {
        let read = Read::all(&request, submitted.await.unwrap().unwrap()).await;
        assert_eq!(read.reasons(), [reason]);
    }
    assert_eq!(begin.elapsed().as_millis() / 100, 50);
    // A client that leaves needs no more than to drop its call.
    let left = timeout(Duration::from_secs(1), engine.submit(long(4))).await;
    assert!(left.is_err());
    engine.idle().await;
    let late = submit(long(5));
    sleep(Duration::from_millis(10)).await;
    engine.close("too many deaths");
    let refused = late.await.unwrap().unwrap_err();
    assert_eq!(refused, Refused::Unreachable { reason: "too many deaths".to_owned() });
    assert_eq!(log.lock().unwrap().submitted, []);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_the_instance_thinks_is_forgotten_there() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let scripted = Scripted::healthy(&log);
    engine.attach(0, scripted.clone());
    // The instance answers after 1 ms.
    assert!(timeout(Duration::from_micros(100), engine.submit(long(1))).await.is_err());
    engine.idle().await;
    assert_eq!(scripted.running(), 0);
    assert_eq!(log.lock().unwrap().submitted, []);
}

#[tokio::test(start_paused = true)]
async fn a_full_instance_is_passed_over() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let instances = [0, 1].map(|instance| {
        let scripted = Scripted::healthy(&log);
        engine.attach(instance, scripted.clone());
        scripted
    });
    let full = Refused::QueueFull { limit: 7 };
    instances[0].refuses(full.clone());
    let outputs = engine.submit(long(1)).await.unwrap();
    assert_eq!((instances[0].running(), instances[1].running()), (0, 1));
    instances[0].refuses(full.clone());
    instances[1].refuses(full.clone());
    assert_eq!(engine.submit(long(2)).await.unwrap_err(), full);
    // One that has started waits for room.
    instances[0].refuses(full.clone());
    instances[0].refuses(full);
    engine.detach(1);
    Read::all(&long(1), outputs).await.is_whole();
    // What no instance can run is told.
    let wrong = Refused::TooLong { prompt: 1, max_tokens: 2, limit: 3 };
    instances[0].refuses(wrong.clone());
    assert_eq!(engine.submit(long(3)).await.unwrap_err(), wrong);
    let twice = engine.submit(long(4)).await.unwrap();
    let refused = engine.submit(long(4)).await.unwrap_err();
    assert_eq!(refused.to_string(), "id is 4: a request of this id runs already");
    drop(twice);
}

#[tokio::test(start_paused = true)]
async fn draining_instances_get_nothing_new() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let instances = [0, 1].map(|instance| {
        let scripted = Scripted::healthy(&log);
        engine.attach(instance, scripted.clone());
        scripted
    });
    let first = engine.submit(long(1)).await.unwrap();
    instances[0].set_state(EngineState::Draining);
    for id in 2..5 {
        engine.submit(long(id)).await.unwrap();
    }
    assert_eq!((instances[0].running(), instances[1].running()), (1, 3));
    Read::all(&long(1), first).await.is_whole();
    assert_eq!(log.lock().unwrap().submitted.len(), 4);
    // The whole of it.
    let last = engine.submit(long(5)).await.unwrap();
    engine.drain();
    assert_eq!(engine.state(), EngineState::Draining);
    assert_eq!(engine.submit(long(6)).await.unwrap_err(), Refused::Draining);
    engine.detach(1);
    engine.attach(1, Scripted::healthy(&log));
    Read::all(&long(5), last).await.is_whole();
    timeout(Duration::from_secs(9), engine.idle()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn prefixes_and_loads_decide() {
    let log = SharedLog::default();
    let engine = routed(RouteConfig { policy: Routing::PrefixAware, ..CONFIG });
    let instances = [0, 1].map(|instance| {
        let scripted = Scripted::healthy(&log);
        engine.attach(instance, scripted.clone());
        scripted
    });
    let mut request = long(1);
    let mut submit = async |prompt: u32| {
        request.prompt = (prompt..prompt + 8).collect();
        request.id.0 += 1;
        engine.submit(request.clone()).await.unwrap();
        [instances[0].running(), instances[1].running()]
    };
    assert_eq!(submit(0).await, [1, 0]);
    assert_eq!(submit(50).await, [1, 1], "the less loaded one");
    assert_eq!(submit(0).await, [2, 1]);
    assert_eq!(submit(0).await, [3, 1], "where its prefix is");
    assert_eq!(submit(50).await, [3, 2]);
    assert_eq!(submit(100).await, [3, 3]);
    engine.idle().await;
    // Tokens that came are no load any more.
    assert_eq!(submit(150).await, [1, 0], "in turn");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(submit(200).await, [1, 1]);
    // Another instance of the same number knows nothing.
    engine.retire(0);
    engine.attach(0, Scripted::healthy(&log));
    engine.idle().await;
}

#[tokio::test(start_paused = true)]
async fn what_instances_say_is_put_together() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let [one, two, frozen] = [0, 1, 2].map(|instance| {
        let scripted = dying(&log, Death::Frozen);
        engine.attach(instance, scripted.clone());
        scripted
    });
    one.set_limits(EngineLimits { max_seq_len: 50, ..LIMITS });
    two.set_limits(EngineLimits { max_batch_size: 2, kv_cache_tokens: 99, ..LIMITS });
    let least = EngineLimits { max_seq_len: 50, max_batch_size: 2, kv_cache_tokens: 99, ..LIMITS };
    assert_eq!(engine.limits(), Some(least));
    let iteration = |second: u32| IterationStats {
        timestamp: format!("01-02-2030 00:00:{second:02}.000000"),
        ..IterationStats::default()
    };
    let event =
        |event_id| KvEvent { event_id, data: KvEventData::Removed { block_hashes: Vec::new() } };
    one.tells(vec![iteration(1), iteration(3)], vec![event(0), event(1)]);
    two.tells(vec![iteration(2)], vec![event(0)]);
    frozen.kill();
    let told = engine.take_iterations().await;
    assert_eq!(told, [iteration(1), iteration(2), iteration(3)]);
    assert_eq!(engine.take_kv_events().await, [event(0), event(1), event(2)]);
    one.tells(Vec::new(), vec![event(4)]);
    assert_eq!(engine.take_kv_events().await, [event(5)], "two were lost");
    for instance in 0..3 {
        engine.detach(instance);
    }
    assert_eq!(engine.limits(), Some(LIMITS), "the last one's");
}
