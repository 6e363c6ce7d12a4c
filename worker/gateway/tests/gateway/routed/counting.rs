//! Each request that was accepted is counted once, at its end, and costs nothing before.

use std::sync::Arc;
use std::time::Duration;

use shardrun_gateway::{RouteConfig, RoutedEngine};
use shardrun_metrics::{MetricsPage, Model, ModelCounter, ModelLabel};
use shardrun_wire::{EngineClient, FinishReason, Refused, RequestId, Search};
use tokio::time::{sleep, timeout};

use super::deaths::{CONFIG, SharedLog, dying, long, restarting};
use super::reader::Read;
use super::scripted::{Death, LIMITS, Scripted};

/// An engine, its page, and what was counted there: succeeded, cancelled, failed, timed out.
struct Counted {
    engine: Arc<RoutedEngine>,
    page: Arc<MetricsPage>,
}

impl Counted {
    fn new(config: RouteConfig) -> Self {
        let page = Arc::new(MetricsPage::in_memory());
        Self { engine: Arc::new(RoutedEngine::new(config, page.clone())), page }
    }

    /// What was counted, once nothing runs any more.
    async fn ends(&self) -> [u64; 4] {
        use ModelCounter::{Cancelled, Failed, Refused, Rejected, Succeeded, TimedOut};
        self.engine.idle().await;
        let count = |counter| self.page.model(Model::TensorrtLlm, counter).get();
        assert_eq!([Rejected, Refused].map(count), [0, 0], "whoever is refused counts that");
        [Succeeded, Cancelled, Failed, TimedOut].map(count)
    }

    /// Runs a request until it has some tokens, and its instance is dead.
    async fn orphan(&self, id: u64, death: Death) -> (Read, shardrun_wire::OutputStream) {
        let scripted = dying(&SharedLog::default(), death);
        self.engine.attach(0, scripted.clone());
        let mut outputs = self.engine.submit(long(id)).await.unwrap();
        let mut read = Read::of(&long(id));
        read.until(&mut outputs, 5).await;
        scripted.kill();
        (read, outputs)
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_a_request_is_counted_once() {
    let log = SharedLog::default();
    let counted = Counted::new(CONFIG);
    let engine = &counted.engine;

    // Through two instances, the first of which says that it failed.
    let (read, outputs) = counted.orphan(1, Death::Failing).await;
    engine.attach(1, Scripted::healthy(&log));
    read.rest(outputs).await.is_whole();
    let succeeded = counted.page.model(Model::TensorrtLlm, ModelCounter::Succeeded).get();
    assert_eq!(succeeded, 1, "whoever has read the end finds it counted");
    assert_eq!(counted.ends().await, [1, 0, 0, 0]);

    // Handed on, so that the first instance says that it was cancelled.
    let outputs = engine.submit(long(2)).await.unwrap();
    engine.attach(2, Scripted::healthy(&log));
    engine.retire(1);
    Read::all(&long(2), outputs).await.is_whole();
    assert_eq!(counted.ends().await, [2, 0, 0, 0]);

    // Cancelled where it runs, and where none does.
    let outputs = engine.submit(long(3)).await.unwrap();
    engine.cancel(RequestId(3));
    assert_eq!(Read::all(&long(3), outputs).await.reasons(), [FinishReason::Cancelled]);
    engine.retire(2);
    let (read, outputs) = counted.orphan(4, Death::Silent).await;
    sleep(Duration::from_millis(100)).await;
    engine.cancel(RequestId(4));
    assert_eq!(read.rest(outputs).await.reasons(), [FinishReason::Cancelled]);
    assert_eq!(counted.ends().await, [2, 2, 0, 0]);

    // Left by a client that waits, and over before an instance came.
    assert!(timeout(Duration::from_millis(50), engine.submit(long(5))).await.is_err());
    let mut short = long(6);
    short.timeout = Some(Duration::from_millis(50));
    let outputs = engine.submit(short.clone()).await.unwrap();
    assert_eq!(Read::all(&short, outputs).await.reasons(), [FinishReason::TimedOut]);
    assert_eq!(counted.ends().await, [2, 3, 0, 1]);

    // Of two sequences one is whole, and the other is not.
    let mut both = long(7);
    both.search = Search::Sample { sequences: 2 };
    let (tokens, _) = super::scripted::undisturbed(&both, 1);
    let last = dying(&log, Death::Silent);
    engine.attach(0, last.clone());
    let mut outputs = engine.submit(both.clone()).await.unwrap();
    let mut read = Read::of(&both);
    read.until(&mut outputs, 59.min(tokens.len() + 2)).await;
    engine.cancel(RequestId(7));
    read.rest(outputs).await.is_a_beginning();
    assert_eq!(counted.ends().await, [2, 4, 0, 1]);

    // Given up after two deaths, and because nobody comes any more.
    let (read, outputs) = counted.orphan(8, Death::Silent).await;
    let second = dying(&log, Death::Silent);
    engine.attach(0, second.clone());
    while second.running() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    second.kill();
    assert!(read.rest(outputs).await.failure().is_some());
    let (read, outputs) = counted.orphan(9, Death::Silent).await;
    engine.close("no more");
    assert!(read.rest(outputs).await.failure().is_some());
    assert_eq!(counted.ends().await, [2, 4, 2, 1]);

    // And what is refused is not counted here.
    assert!(engine.submit(long(10)).await.is_err());
    assert_eq!(counted.ends().await, [2, 4, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_told_is_counted_too() {
    let log = SharedLog::default();
    let counted = Counted::new(CONFIG);
    let scripted = dying(&log, Death::Silent);
    counted.engine.attach(0, scripted.clone());
    scripted.says_no_ends();
    let mut outputs = counted.engine.submit(long(1)).await.unwrap();
    let mut read = Read::of(&long(1));
    read.until(&mut outputs, 60).await;
    scripted.kill();
    read.rest(outputs).await.is_whole();
    assert_eq!(counted.ends().await, [1, 0, 0, 0]);
    let duration = counted.page.model(Model::TensorrtLlm, ModelCounter::DurationUs).get();
    assert!((300_000..400_000).contains(&duration), "60 iterations of 5 ms: {duration}");
}

#[tokio::test(start_paused = true)]
async fn what_no_instance_could_run_is_refused_before_anything_is_kept_of_it() {
    let log = SharedLog::default();
    for waits in [false, true] {
        let engine = restarting(CONFIG);
        if !waits {
            engine.attach(0, Scripted::healthy(&log));
        }
        let mut large = long(1);
        // The outputs of one would take 64 GiB.
        large.max_tokens = i32::MAX as u32;
        large.search = Search::Sample { sequences: 8 };
        let prompt = large.prompt.len() as u32;
        let (max_tokens, limit) = (large.max_tokens, LIMITS.max_seq_len);
        let refused = Refused::TooLong { prompt, max_tokens, limit };
        assert_eq!(engine.submit(large).await.unwrap_err(), refused);
        let mut many = long(2);
        many.search = Search::Sample { sequences: u32::MAX };
        let refused = engine.submit(many).await.unwrap_err().to_string();
        assert!(refused.starts_with("num_return_sequences is 4294967295: "), "{refused}");
        engine.idle().await;
    }
    assert_eq!(log.lock().unwrap().submitted, []);
}

#[tokio::test(start_paused = true)]
async fn counts_go_on_in_the_engine_that_takes_the_place() {
    let (before, heir) = (restarting(CONFIG), restarting(CONFIG));
    before.attach(0, Scripted::healthy(&SharedLog::default()));
    before.detach(0);
    let deaths = |engine: &RoutedEngine| engine.counts(ModelLabel::plain()).instance_deaths;
    assert_eq!((deaths(&before), deaths(&heir)), (1, 0));
    heir.inherit(&before);
    assert_eq!((deaths(&before), deaths(&heir)), (0, 1));
}
