//! What becomes of a request when its instance dies, case by case.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use shardrun_gateway::{RouteConfig, RoutedEngine, Routing};
use shardrun_metrics::{MetricsPage, ModelLabel};
use shardrun_wire::{EngineClient, EngineState, FinishReason, Request, RequestId, Search};
use tokio::time::{Instant, sleep};

use super::reader::{EVERYTHING, Read, request};
use super::scripted::{Death, Log, Parts, Scripted};

pub(super) const CONFIG: RouteConfig = RouteConfig {
    policy: Routing::RoundRobin,
    tokens_per_block: 4,
    max_waiting: 3,
    deaths_allowed: 2,
    request_timeout: None,
    queue_timeout: None,
};

/// A model of which no instance has served yet.
pub(super) fn routed(config: RouteConfig) -> RoutedEngine {
    RoutedEngine::new(config, Arc::new(MetricsPage::in_memory()))
}

/// One whose instances have all just gone, and are expected back.
pub(super) fn restarting(config: RouteConfig) -> RoutedEngine {
    let engine = routed(config);
    engine.attach(0, Scripted::healthy(&SharedLog::default()));
    engine.retire(0);
    engine
}

pub(super) type SharedLog = Arc<Mutex<Log>>;

/// A request whose sequences are all as long as they may be.
pub(super) fn long(id: u64) -> Request {
    let mut request = request(id, 60);
    while super::scripted::undisturbed(&request, 0).1 != FinishReason::Length {
        request.sampling.seed += 100;
    }
    request
}

pub(super) fn dying(log: &SharedLog, death: Death) -> Arc<Scripted> {
    let (step, answer) = (Duration::from_millis(5), Duration::from_millis(1));
    Scripted::new(Parts { log: log.clone(), step, answer, fuse: u64::MAX, death })
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_after_each_kind_of_death() {
    for death in [Death::Silent, Death::Failing, Death::Frozen, Death::Hanging] {
        let log = SharedLog::default();
        let engine = routed(CONFIG);
        let first = dying(&log, death);
        engine.attach(0, first.clone());
        let mut request = long(1);
        request.wanted = EVERYTHING;
        request.search = Search::Sample { sequences: 2 };
        let mut outputs = engine.submit(request.clone()).await.unwrap();
        let mut read = Read::of(&request);
        read.until(&mut outputs, 20).await;
        first.kill();
        let rest = tokio::spawn(read.rest(outputs));
        sleep(Duration::from_secs(3)).await;
        if death == Death::Frozen {
            assert_eq!(engine.state(), EngineState::Ready, "nobody can tell");
            engine.detach(0);
        }
        assert_eq!(engine.state(), EngineState::Loading, "{death:?}");
        assert_eq!(engine.limits().map(|limits| limits.max_batch_size), Some(8), "the last known");
        engine.attach(0, Scripted::healthy(&log));
        rest.await.unwrap().is_whole();
        let counts = engine.counts(ModelLabel::plain());
        assert_eq!((counts.resubmitted, counts.instance_deaths, counts.waiting), (1, 1, 0));
        let log = log.lock().unwrap();
        let [before, after] = &log.submitted[..] else { panic!("{:?}", log.submitted) };
        assert_ne!(before.id, after.id);
        assert_eq!(after.priority, 1.0, "before those that have not started");
        assert!(!after.wanted.context_logits, "all rows came");
        assert_eq!(before.sampling, after.sampling);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_saw_two_deaths_is_failed() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let instances = [0, 1].map(|instance| {
        let scripted = dying(&log, Death::Silent);
        engine.attach(instance, scripted.clone());
        scripted
    });
    let request = long(1);
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 10).await;
    instances[0].kill();
    read.until(&mut outputs, 20).await;
    instances[1].kill();
    let read = read.rest(outputs).await;
    read.is_a_beginning();
    let why = "it was running in 2 instances of the model when they died, and is not tried again";
    assert_eq!(read.failure().as_deref(), Some(why));
    assert_eq!(engine.counts(ModelLabel::plain()).instance_deaths, 2);
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_stopped_on_purpose_are_held_against_nobody() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let request = long(1);
    let first = dying(&log, Death::Silent);
    engine.attach(0, first.clone());
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    for tokens in [5, 10, 15] {
        read.until(&mut outputs, tokens).await;
        engine.attach(1, Scripted::healthy(&log));
        engine.retire(0);
        read.until(&mut outputs, tokens + 2).await;
        engine.attach(0, Scripted::healthy(&log));
        engine.retire(1);
    }
    // One that drains, and ends when its grace is over.
    read.until(&mut outputs, 30).await;
    let last = dying(&log, Death::Failing);
    engine.attach(2, last.clone());
    engine.retire(0);
    read.until(&mut outputs, 32).await;
    last.set_state(EngineState::Draining);
    sleep(Duration::from_millis(60)).await;
    engine.attach(3, Scripted::healthy(&log));
    last.kill();
    read.rest(outputs).await.is_whole();
    assert_eq!(engine.counts(ModelLabel::plain()).instance_deaths, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_request_alone_is_told() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let scripted = Scripted::healthy(&log);
    engine.attach(0, scripted.clone());
    let request = long(1);
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 3).await;
    scripted.ends(FinishReason::Failed("its guide is at an end".to_owned()));
    let read = read.rest(outputs).await;
    assert_eq!(read.failure().as_deref(), Some("its guide is at an end"));
    assert_eq!(log.lock().unwrap().submitted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sequence_with_all_its_tokens_needs_no_instance() {
    // The instance dies just before it says that the last token was the last.
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let mut request = long(1);
    request.search = Search::Sample { sequences: 2 };
    request.max_tokens = 3;
    let scripted = dying(&log, Death::Silent);
    engine.attach(0, scripted.clone());
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 2).await;
    scripted.says_no_ends();
    read.until(&mut outputs, 3).await;
    scripted.kill();
    read.rest(outputs).await.is_whole();
    assert_eq!(log.lock().unwrap().submitted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_requests_time_counts_from_its_first_submission() {
    for in_the_config in [false, true] {
        let log = SharedLog::default();
        let timeout = Duration::from_millis(1000);
        let mut request = long(1);
        let mut config = CONFIG;
        match in_the_config {
            true => config.request_timeout = Some(timeout),
            false => request.timeout = Some(timeout),
        }
        let engine = routed(config);
        let first = dying(&log, Death::Silent);
        engine.attach(0, first.clone());
        let begin = Instant::now();
        let mut outputs = engine.submit(request.clone()).await.unwrap();
        let mut read = Read::of(&request);
        read.until(&mut outputs, 5).await;
        first.kill();
        sleep(Duration::from_millis(300)).await;
        let second = dying(&log, Death::Silent);
        engine.attach(0, second.clone());
        read.until(&mut outputs, 6).await;
        let left = log.lock().unwrap().submitted[1].timeout.unwrap();
        let gone = begin.elapsed();
        assert!(left < timeout - Duration::from_millis(300), "{left:?}");
        assert!(left + gone >= timeout, "{left:?} {gone:?}");
        engine.retire(0);
        let read = read.rest(outputs).await;
        assert_eq!(read.reasons(), [FinishReason::TimedOut]);
        assert_eq!(begin.elapsed().as_millis() / 10, 100, "while it waited");
        read.is_a_beginning();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_started_does_not_expire_in_a_queue() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let first = dying(&log, Death::Silent);
    engine.attach(0, first.clone());
    let request = long(1);
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 5).await;
    let second = Scripted::healthy(&log);
    engine.attach(1, second.clone());
    first.kill();
    while second.running() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    second.ends(FinishReason::Expired);
    read.rest(outputs).await.is_whole();
    // A new one does.
    let request = long(2);
    let outputs = engine.submit(request.clone()).await.unwrap();
    second.ends(FinishReason::Expired);
    assert_eq!(Read::all(&request, outputs).await.reasons(), [FinishReason::Expired]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_reaches_the_request_where_it_is() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let first = dying(&log, Death::Silent);
    engine.attach(0, first.clone());
    let request = long(1);
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 5).await;
    first.kill();
    let second = Scripted::healthy(&log);
    engine.attach(0, second.clone());
    read.until(&mut outputs, 10).await;
    engine.cancel(RequestId(1));
    let read = read.rest(outputs).await;
    assert_eq!(read.reasons(), [FinishReason::Cancelled]);
    assert!(read.sequences[0].tokens.len() < 15);
    let there = log.lock().unwrap().submitted[1].id;
    assert_eq!(log.lock().unwrap().cancelled.last(), Some(&there));

    // And while it waits for another instance.
    let request = long(2);
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 5).await;
    engine.detach(0);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(engine.counts(ModelLabel::plain()).waiting, 1);
    engine.cancel(RequestId(2));
    assert_eq!(read.rest(outputs).await.reasons(), [FinishReason::Cancelled]);
    assert_eq!(second.running(), 0, "the one that it left does not go on with it");
    engine.idle().await;
    engine.cancel(RequestId(2));
}

#[tokio::test(start_paused = true)]
async fn without_hope_of_an_instance_requests_fail() {
    let log = SharedLog::default();
    let engine = routed(CONFIG);
    let first = dying(&log, Death::Silent);
    engine.attach(0, first.clone());
    let request = long(1);
    let mut outputs = engine.submit(request.clone()).await.unwrap();
    let mut read = Read::of(&request);
    read.until(&mut outputs, 5).await;
    engine.close("it died 5 times in a minute");
    assert_eq!(engine.state(), EngineState::Stopped);
    let refused = engine.submit(long(2)).await.unwrap_err();
    let why = "the engine can't be reached: it died 5 times in a minute";
    assert_eq!(refused.to_string(), why);
    read.until(&mut outputs, 10).await;
    first.kill();
    let read = read.rest(outputs).await;
    assert_eq!(read.failure().as_deref(), Some(why));
}
