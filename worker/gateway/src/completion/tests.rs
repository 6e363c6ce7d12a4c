use std::sync::Mutex;

use futures_util::future::{BoxFuture, ready};
use shardrun_metrics::{MetricsPage, Model, ModelCounter};
use shardrun_wire::{
    EngineLimits, EngineState, IterationStats, KvEvent, Refused, RequestId, output_stream,
};

use super::*;

/// Generates all at once, and notes what is cancelled.
#[derive(Default)]
struct AtOnce(Mutex<Vec<RequestId>>);

impl EngineClient for AtOnce {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        let (sink, outputs) = output_stream(&request);
        (0..request.max_tokens).for_each(|token| sink.push(0, token, 0.0));
        let reason = FinishReason::Length;
        sink.finish(Finished { sequence: 0, reason, score: None, account: None });
        ready(Ok(outputs)).boxed()
    }

    fn cancel(&self, id: RequestId) {
        self.0.lock().unwrap().push(id);
    }

    fn state(&self) -> EngineState {
        EngineState::Ready
    }

    fn limits(&self) -> Option<EngineLimits> {
        None
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        ready(Vec::new()).boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        ready(Vec::new()).boxed()
    }
}

#[tokio::test]
async fn a_client_that_leaves_tokens_behind_is_counted_once() {
    for read in 0..=3 {
        let (ours, page) = (Arc::new(AtOnce::default()), Arc::new(MetricsPage::in_memory()));
        let engine: Arc<dyn EngineClient> = ours.clone();
        let reader = Reader {
            text: None,
            vocab_size: 9,
            wants_account: false,
            account: Account::open(page.clone(), Model::Ensemble),
            model_timeout: None,
            named: None,
        };
        let request = Request::new(RequestId(5), vec![1], 3);
        let mut completion = Completion::start(&engine, request, reader).await.unwrap();
        for token in 0..read {
            let (_, piece) = completion.next().await.unwrap().unwrap();
            assert_eq!(piece.tokens, [token]);
        }
        assert_eq!(completion.held.is_empty(), read == 0 || read == 3, "{:?}", completion.held);
        drop(completion);
        let ends = [ModelCounter::Succeeded, ModelCounter::Cancelled, ModelCounter::Failed];
        let ends = ends.map(|end| page.model(Model::Ensemble, end).get());
        let whole = read == 3;
        assert_eq!(ends, [u64::from(whole), u64::from(!whole), 0], "after {read} tokens");
        let cancelled = ours.0.lock().unwrap();
        assert_eq!(*cancelled, if whole { vec![] } else { vec![RequestId(5)] });
    }
}
