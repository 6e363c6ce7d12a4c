//! An engine whose outputs the test writes.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    EngineClient, EngineLimits, EngineState, IterationStats, KvEvent, OutputSink, OutputStream,
    Refused, Request, RequestId, output_stream,
};

pub(super) const LIMITS: EngineLimits = EngineLimits {
    max_seq_len: 1 << 20,
    kv_cache_tokens: 1 << 20,
    max_queue_size: 100,
    vocab_size: 50_000,
    max_batch_size: 64,
    max_beam_width: 4,
    max_logits_rows: 100,
};

pub(super) struct FakeEngine {
    pub(super) state: Mutex<EngineState>,
    pub(super) limits: Mutex<Option<EngineLimits>>,
    /// What submissions are answered with.
    pub(super) refuse: Mutex<Option<Refused>>,
    /// A submission takes one and keeps it.
    pub(super) permits: Semaphore,
    pub(super) iterations: Mutex<Vec<IterationStats>>,
    pub(super) events: Mutex<Vec<KvEvent>>,
    submitted: mpsc::UnboundedSender<(Request, OutputSink)>,
    cancelled: mpsc::UnboundedSender<RequestId>,
}

/// What an engine was told.
pub(super) struct Said {
    pub(super) submitted: mpsc::UnboundedReceiver<(Request, OutputSink)>,
    pub(super) cancelled: mpsc::UnboundedReceiver<RequestId>,
}

impl FakeEngine {
    pub(super) fn new() -> (Arc<Self>, Said) {
        let (submitted, submissions) = mpsc::unbounded_channel();
        let (cancelled, cancels) = mpsc::unbounded_channel();
        let engine = Self {
            state: Mutex::new(EngineState::Ready),
            limits: Mutex::new(Some(LIMITS)),
            refuse: Mutex::new(None),
            permits: Semaphore::new(1000),
            iterations: Mutex::default(),
            events: Mutex::default(),
            submitted,
            cancelled,
        };
        (Arc::new(engine), Said { submitted: submissions, cancelled: cancels })
    }
}

impl EngineClient for FakeEngine {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        Box::pin(async move {
            self.permits.acquire().await.unwrap().forget();
            if let Some(refused) = self.refuse.lock().unwrap().clone() {
                return Err(refused);
            }
            let (sink, stream) = output_stream(&request);
            self.submitted.send((request, sink)).unwrap();
            Ok(stream)
        })
    }

    fn cancel(&self, id: RequestId) {
        // The test may have ended.
        let _ = self.cancelled.send(id);
    }

    fn state(&self) -> EngineState {
        *self.state.lock().unwrap()
    }

    fn limits(&self) -> Option<EngineLimits> {
        *self.limits.lock().unwrap()
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        Box::pin(async { std::mem::take(&mut *self.iterations.lock().unwrap()) })
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        Box::pin(async { std::mem::take(&mut *self.events.lock().unwrap()) })
    }
}
