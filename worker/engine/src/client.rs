//! The engine as clients of the same process see it.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, IterationStats, KvEvent, OutputSink, OutputStream,
    Refused, Request, RequestId, RequestStats, output_stream,
};

use crate::check::check;
use crate::guide::{CompiledGuide, GuideVocabulary};
use crate::iterations::IterationRecord;
use crate::scheduler::SchedulerConfig;

/// What clients ask of the step thread.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<Submission>),
    Cancel(RequestId),
    /// Finish what there is, then end.
    Drain,
    /// End now.
    Stop,
}

/// A request that was found good.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) guide: Option<CompiledGuide>,
    pub(crate) sink: OutputSink,
    pub(crate) at: Instant,
}

/// Hands requests to the step thread of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalEngine {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

/// The step thread's end of a [`LocalEngine`].
#[derive(Debug)]
pub struct Inbox {
    pub(crate) commands: Receiver<Command>,
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: AtomicU8,
    serving: OnceLock<Serving>,
    /// Requests that were submitted and have not started.
    waiting: AtomicU32,
    why_ended: OnceLock<String>,
}

/// What clients need of an engine that is ready.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) limits: EngineLimits,
    pub(crate) config: SchedulerConfig,
    pub(crate) guides: GuideVocabulary,
    /// Of requests that name none.
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) iterations: Option<ArrayQueue<IterationRecord>>,
    /// By iteration; of fewer iterations, since they are large.
    pub(crate) request_rows: Option<ArrayQueue<(u64, Vec<RequestStats>)>>,
    pub(crate) kv_events: Option<ArrayQueue<KvEvent>>,
}

/// A client and its inbox; the engine is loading.
#[must_use]
pub fn local_engine() -> (LocalEngine, Inbox) {
    let (sender, commands) = channel();
    let shared = Arc::new(Shared {
        state: AtomicU8::new(EngineState::Loading as u8),
        serving: OnceLock::new(),
        waiting: AtomicU32::new(0),
        why_ended: OnceLock::new(),
    });
    (LocalEngine { commands: sender, shared: shared.clone() }, Inbox { commands, shared })
}

impl LocalEngine {
    /// Refuses new requests; the engine ends when the running ones have.
    pub fn drain(&self) {
        self.shared.leave_for(EngineState::Draining);
        // A closed channel means that the engine has ended already.
        let _ = self.commands.send(Command::Drain);
    }

    /// Ends the engine now; unfinished requests fail.
    pub fn stop(&self) {
        self.shared.leave_for(EngineState::Draining);
        let _ = self.commands.send(Command::Stop);
    }

    /// What a request needs, if requests are taken.
    fn serving(&self) -> Result<&Serving, Refused> {
        let serving = self.shared.serving.get().ok_or(Refused::Loading)?;
        match self.state() {
            EngineState::Loading => Err(Refused::Loading),
            EngineState::Ready => Ok(serving),
            EngineState::Draining | EngineState::Stopped => Err(Refused::Draining),
        }
    }

    async fn compiled(&self, request: &mut Request) -> Result<Option<CompiledGuide>, Refused> {
        let Some(guide) = request.guide.clone() else { return Ok(None) };
        let guides = self.serving()?.guides.clone();
        let compiled = tokio::task::spawn_blocking(move || guides.compile(&guide)).await;
        let invalid = |allowed: String| Refused::Invalid {
            field: "guided_decoding_guide".to_owned(),
            value: "not usable".to_owned(),
            allowed,
        };
        match compiled {
            Ok(Ok(compiled)) => {
                // A guided text ends where its guide says, whatever else the request wants.
                request.end_id = Some(compiled.end_id());
                Ok(Some(compiled))
            }
            Ok(Err(error)) => Err(invalid(error.to_string())),
            Err(_) => Err(invalid("compiling it failed within the engine".to_owned())),
        }
    }

    async fn queue(&self, mut request: Request) -> Result<OutputStream, Refused> {
        let serving = self.serving()?;
        // No salt and an empty one are the same.
        request.cache_salt = request.cache_salt.filter(|salt| !salt.is_empty());
        check(&request, &serving.limits, &serving.config)?;
        request.timeout = request.timeout.or(serving.request_timeout);
        let guide = self.compiled(&mut request).await?;
        let limit = serving.limits.max_queue_size;
        let one_more = |waiting: u32| (waiting < limit).then_some(waiting + 1);
        self.shared
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Refused::QueueFull { limit })?;
        let (sink, stream) = output_stream(&request);
        let submission = Submission { request, guide, sink, at: Instant::now() };
        let sent = self.commands.send(Command::Submit(Box::new(submission)));
        sent.map_err(|_| Refused::Draining)?;
        Ok(stream)
    }
}

impl EngineClient for LocalEngine {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        self.queue(request).boxed()
    }

    fn cancel(&self, id: RequestId) {
        // A closed channel means that the request has ended with the engine.
        let _ = self.commands.send(Command::Cancel(id));
    }

    fn state(&self) -> EngineState {
        match self.shared.state.load(Ordering::Acquire) {
            state if state == EngineState::Loading as u8 => EngineState::Loading,
            state if state == EngineState::Ready as u8 => EngineState::Ready,
            state if state == EngineState::Draining as u8 => EngineState::Draining,
            _ => EngineState::Stopped,
        }
    }

    fn limits(&self) -> Option<EngineLimits> {
        self.shared.serving.get().map(|serving| serving.limits)
    }

    fn why_ended(&self) -> Option<String> {
        self.shared.why_ended.get().cloned()
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        let serving = self.shared.serving();
        let rows = serving.and_then(|serving| serving.request_rows.as_ref());
        let mut rows = rows.map_or_else(Vec::new, |rows| take_all(rows, |row| row));
        let kept = serving.and_then(|serving| serving.iterations.as_ref());
        let mut taken = kept.map_or_else(Vec::new, |kept| take_all(kept, IterationRecord::stats));
        for stats in &mut taken {
            let row = rows.iter_mut().find(|(step, _)| *step == stats.iter);
            stats.request_stats = row.map(|(_, requests)| std::mem::take(requests));
        }
        ready(taken).boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        let kept = self.shared.serving().and_then(|serving| serving.kv_events.as_ref());
        ready(kept.map_or_else(Vec::new, |kept| take_all(kept, |event| event))).boxed()
    }
}

/// What is in a queue now; what comes meanwhile is left for the next time.
fn take_all<T, U>(queue: &ArrayQueue<T>, each: impl FnMut(T) -> U) -> Vec<U> {
    std::iter::from_fn(|| queue.pop()).take(queue.len()).map(each).collect()
}

impl Shared {
    /// Takes requests from now on, unless the engine is ending already.
    pub(crate) fn ready(&self, serving: Serving) {
        let set = self.serving.set(serving);
        debug_assert!(set.is_ok(), "an engine gets ready once");
        let (loading, ready) = (EngineState::Loading as u8, EngineState::Ready as u8);
        let _ = self.state.compare_exchange(loading, ready, Ordering::AcqRel, Ordering::Acquire);
    }

    /// What clients read; there once the engine is ready.
    pub(crate) fn serving(&self) -> Option<&Serving> {
        self.serving.get()
    }

    /// One request fewer waits.
    pub(crate) fn left_queue(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes no requests from now on, because of `why`.
    pub(crate) fn end(&self, why: String) {
        let set = self.why_ended.set(why);
        debug_assert!(set.is_ok(), "an engine ends once");
        self.leave_for(EngineState::Stopped);
    }

    /// States only go forward.
    fn leave_for(&self, state: EngineState) {
        self.state.fetch_max(state as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_says_why_it_ended_once_it_has() {
        let (engine, inbox) = local_engine();
        engine.drain();
        assert_eq!((engine.state(), engine.why_ended()), (EngineState::Draining, None));
        inbox.shared.end(Refused::Draining.to_string());
        let why = Some("the server is shutting down".to_owned());
        assert_eq!((engine.state(), engine.why_ended()), (EngineState::Stopped, why));
    }
}
