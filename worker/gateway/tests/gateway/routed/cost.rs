//! What the way through costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, FinishReason, Finished, IterationStats, KvEvent,
    OutputStream, Refused, Request, RequestId, output_stream,
};

use super::deaths::{CONFIG, routed};
use super::scripted::LIMITS;

const STREAMS: u64 = 32;
const TOKENS: u32 = 10_000;

/// Writes tokens as fast as they are read: a task of its own for each request, a token at a time.
struct Fast;

impl EngineClient for Fast {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        let (sink, outputs) = output_stream(&request);
        tokio::spawn(async move {
            for token in 0..request.max_tokens {
                sink.push(0, token, 0.0);
                sink.publish();
                tokio::task::yield_now().await;
            }
            let (sequence, reason) = (0, FinishReason::Length);
            sink.finish(Finished { sequence, reason, score: None, account: None });
        });
        ready(Ok(outputs)).boxed()
    }

    fn cancel(&self, _: RequestId) {}

    fn state(&self) -> EngineState {
        EngineState::Ready
    }

    fn limits(&self) -> Option<EngineLimits> {
        Some(EngineLimits { max_seq_len: 20_000, kv_cache_tokens: 1_000_000, ..LIMITS })
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        ready(Vec::new()).boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        ready(Vec::new()).boxed()
    }
}

/// How long all streams take.
async fn time(engine: Arc<dyn EngineClient>) -> Duration {
    let begin = Instant::now();
    let streams = (1..=STREAMS).map(|id| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let request = Request::new(RequestId(id), vec![1; 100], TOKENS);
            let mut outputs = engine.submit(request).await.unwrap();
            let mut pieces = 0;
            while outputs.next().await.is_some() {
                pieces += 1;
            }
            pieces
        })
    });
    let streams: Vec<_> = streams.collect();
    let mut pieces = 0;
    for stream in streams {
        pieces += stream.await.unwrap();
    }
    println!("{pieces} pieces");
    begin.elapsed()
}

/// On one thread, so that it is the work that counts.
#[tokio::test]
async fn a_token_costs_microseconds() {
    let direct = time(Arc::new(Fast)).await;
    let engine = routed(CONFIG);
    engine.attach(0, Arc::new(Fast));
    let through = time(Arc::new(engine)).await;
    let tokens = STREAMS as u32 * TOKENS;
    let (each, more) = (direct / tokens, through.saturating_sub(direct) / tokens);
    println!("{tokens} tokens: {each:?} a token directly, {more:?} more through the router");
    assert!(more < Duration::from_micros(50), "{more:?} more than {each:?} a token");
}
