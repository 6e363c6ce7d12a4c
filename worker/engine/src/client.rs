//! The engine as the gateway of the same process sees it.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, Output, OutputStream, Refused, Request, RequestId,
    Sampling,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What clients ask of the step thread.
#[derive(Debug)]
pub(crate) enum Command {
    Submit {
        request: Request,
        outputs: UnboundedSender<Output>,
        at: Instant,
    },
    Cancel(RequestId),
    /// Finish what there is, then end.
    Drain,
    /// End now.
    Stop,
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
    limits: OnceLock<EngineLimits>,
    /// Requests that were submitted and have not started.
    waiting: AtomicU32,
}

/// A client and its inbox; the engine is loading.
#[must_use]
pub fn local_engine() -> (LocalEngine, Inbox) {
    let (sender, commands) = channel();
    let shared = Arc::new(Shared {
        state: AtomicU8::new(EngineState::Loading as u8),
        limits: OnceLock::new(),
        waiting: AtomicU32::new(0),
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
}

impl EngineClient for LocalEngine {
    fn submit(&self, request: Request) -> Result<OutputStream, Refused> {
        let limits = self.limits().ok_or(Refused::Loading)?;
        match self.state() {
            EngineState::Loading => return Err(Refused::Loading),
            EngineState::Ready => {}
            EngineState::Draining | EngineState::Stopped => return Err(Refused::Draining),
        }
        check(&request, &limits)?;
        let limit = limits.max_queue_size;
        let one_more = |waiting: u32| (waiting < limit).then_some(waiting + 1);
        self.shared
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Refused::QueueFull { limit })?;
        let (outputs, stream) = unbounded_channel();
        self.commands
            .send(Command::Submit { request, outputs, at: Instant::now() })
            .map_err(|_| Refused::Draining)?;
        Ok(stream)
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
        self.shared.limits.get().copied()
    }
}

/// Refuses what the engine could never run, so that the scheduler need not ask again.
fn check(request: &Request, limits: &EngineLimits) -> Result<(), Refused> {
    let prompt = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
    let max_tokens = request.max_tokens;
    let invalid = |field, value, allowed| Err(Refused::Invalid { field, value, allowed });
    let Sampling { temperature, top_p, .. } = request.sampling;
    if prompt == 0 {
        return invalid("prompt", "empty".into(), "at least one token is needed".into());
    }
    if max_tokens == 0 {
        return invalid("max_tokens", "0".into(), "at least 1 is needed".into());
    }
    if let Some(&token) = request.prompt.iter().find(|&&token| token >= limits.vocab_size) {
        let allowed = format!("token ids are below {}", limits.vocab_size);
        return invalid("prompt", format!("token {token}"), allowed);
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return invalid("temperature", temperature.to_string(), "it must be above 0".into());
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return invalid("top_p", top_p.to_string(), "it must be above 0 and at most 1".into());
    }
    let all = u64::from(prompt) + u64::from(max_tokens);
    if all > u64::from(limits.max_seq_len) {
        return Err(Refused::TooLong { prompt, max_tokens, limit: limits.max_seq_len });
    }
    if all > u64::from(limits.kv_cache_tokens) {
        return Err(Refused::CacheTooSmall { prompt, max_tokens, limit: limits.kv_cache_tokens });
    }
    Ok(())
}

impl Shared {
    /// Takes requests from now on, unless the engine is ending already.
    pub(crate) fn ready(&self, limits: EngineLimits) {
        self.limits.get_or_init(|| limits);
        let (loading, ready) = (EngineState::Loading as u8, EngineState::Ready as u8);
        let _ = self.state.compare_exchange(loading, ready, Ordering::AcqRel, Ordering::Acquire);
    }

    /// One request fewer waits.
    pub(crate) fn left_queue(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// States only go forward.
    pub(crate) fn leave_for(&self, state: EngineState) {
        self.state.fetch_max(state as u8, Ordering::AcqRel);
    }
}
