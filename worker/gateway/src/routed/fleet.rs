//! The instances that are attached, and what is known of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use shardrun_metrics::MetricsPage;
use shardrun_wire::{BlockHash, EngineClient, EngineLimits, EngineState, KvEvent, Request};
use tokio::sync::watch;

use super::counts::Counts;
use super::engine::RouteConfig;
use super::merge::Numbering;
use super::policy::{Candidate, Router};

/// How often an instance's state is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Why an instance is attached no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// It is dead.
    Died,
    /// It was stopped on purpose.
    Retired,
}

/// Whether requests are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Open,
    /// Those that are here go on.
    Draining,
    /// No instance will come any more.
    Closed {
        reason: String,
    },
}

/// An instance from its attachment to its departure. One that comes back is another.
pub(super) struct Attachment {
    /// No other has it.
    pub(super) id: u64,
    pub(super) instance: u32,
    pub(super) client: Arc<dyn EngineClient>,
    /// Tokens in flight.
    load: AtomicU64,
    drained: AtomicBool,
    departure: watch::Sender<Option<Departure>>,
}

impl Attachment {
    /// Looks at its state; notes whether it drains.
    fn state(&self) -> EngineState {
        let state = self.client.state();
        if state == EngineState::Draining {
            self.drained.store(true, Ordering::Relaxed);
        }
        state
    }

    pub(super) fn departure(&self) -> Option<Departure> {
        *self.departure.borrow()
    }

    /// Waits until it is attached no more.
    pub(super) async fn departed(&self) {
        // The sender is this attachment's own.
        let _ = self.departure.subscribe().wait_for(Option::is_some).await;
    }
}

/// Tokens of one request that count as in flight with an instance, as long as this is held.
pub(super) struct Load {
    attachment: Arc<Attachment>,
    tokens: u64,
}

impl Load {
    /// All that `request` may cost: its prompt, and what it may generate or has generated elsewhere.
    pub(super) fn new(attachment: &Arc<Attachment>, request: &Request) -> Self {
        let generated = u64::from(request.search.width()) * u64::from(request.max_tokens);
        let tokens = generated + request.prompt.len() as u64;
        attachment.load.fetch_add(tokens, Ordering::Relaxed);
        Self { attachment: attachment.clone(), tokens }
    }

    /// So many tokens were generated.
    pub(super) fn less(&mut self, tokens: usize) {
        let done = self.tokens.min(tokens as u64);
        self.tokens -= done;
        self.attachment.load.fetch_sub(done, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.attachment.load.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

/// All instances of a model, and what they share.
pub(super) struct Fleet {
    pub(super) config: RouteConfig,
    pub(super) counts: Counts,
    /// Where ends of requests are counted.
    pub(super) page: Arc<MetricsPage>,
    inner: Mutex<Inner>,
    /// Counts what may let a waiting request go on.
    changes: watch::Sender<u64>,
}

struct Inner {
    attached: Vec<Arc<Attachment>>,
    router: Router,
    numbering: Numbering,
    course: Course,
    /// The last that were known.
    limits: Option<EngineLimits>,
    last_id: u64,
}

impl Fleet {
    pub(super) fn new(config: RouteConfig, page: Arc<MetricsPage>) -> Self {
        Self {
            counts: Counts::default(),
            page,
            inner: Mutex::new(Inner {
                attached: Vec::new(),
                router: Router::new(config.policy, config.tokens_per_block as usize),
                numbering: Numbering::default(),
                course: Course::Open,
                limits: None,
                last_id: 0,
            }),
            changes: watch::Sender::new(0),
            config,
        }
    }

    /// Adds an instance, in the place of the one that had its number.
    pub(super) fn attach(self: &Arc<Self>, instance: u32, client: Arc<dyn EngineClient>) {
        self.depart(instance, Departure::Died);
        let mut inner = self.lock();
        inner.last_id += 1;
        let attachment = Arc::new(Attachment {
            id: inner.last_id,
            instance,
            client,
            load: AtomicU64::new(0),
            drained: AtomicBool::new(false),
            departure: watch::Sender::new(None),
        });
        inner.router.fresh(instance);
        inner.attached.push(attachment.clone());
        drop(inner);
        tokio::spawn(watch(Arc::downgrade(self), attachment));
        self.change();
    }

    /// The instance of this number, if it is attached, leaves.
    pub(super) fn depart(&self, instance: u32, why: Departure) {
        let attached = self.attached();
        if let Some(attachment) = attached.iter().find(|one| one.instance == instance) {
            self.leave(attachment, why);
        }
    }

    fn leave(&self, attachment: &Arc<Attachment>, why: Departure) {
        // What is known of it stays known.
        self.limits();
        let mut inner = self.lock();
        let Some(at) = inner.attached.iter().position(|one| one.id == attachment.id) else {
            return;
        };
        inner.attached.remove(at);
        inner.router.forget(attachment.instance);
        inner.numbering.forget(attachment.id);
        drop(inner);
        if why == Departure::Died {
            self.counts.instance_deaths.fetch_add(1, Ordering::Relaxed);
        }
        attachment.departure.send_replace(Some(why));
        self.change();
    }

    /// Lets an instance go whose engine has ended.
    pub(super) fn notice(&self, attachment: &Arc<Attachment>) -> EngineState {
        let state = attachment.state();
        if state == EngineState::Stopped {
            let drained = attachment.drained.load(Ordering::Relaxed);
            let why = if drained { Departure::Retired } else { Departure::Died };
            self.leave(attachment, why);
        }
        state
    }

    /// The instances that take requests, the best for one with these blocks first.
    pub(super) fn order(&self, blocks: &[BlockHash]) -> Vec<Arc<Attachment>> {
        let mut ready = self.attached();
        ready.retain(|one| one.state() == EngineState::Ready);
        let candidate = |one: &Arc<Attachment>| Candidate {
            instance: one.instance,
            load: one.load.load(Ordering::Relaxed),
        };
        let candidates = ready.iter().map(candidate).collect();
        let order = self.lock().router.order(candidates, blocks);
        let place = |one: &Arc<Attachment>| order.iter().position(|&at| at == one.instance);
        ready.sort_by_key(place);
        ready
    }

    pub(super) fn blocks(&self, request: &Request) -> Vec<BlockHash> {
        // Hashing a long prompt takes longer than a lock should be held.
        let hashing = Router::new(self.config.policy, self.config.tokens_per_block as usize);
        hashing.blocks(request)
    }

    /// The instance, whose cache holds so many tokens, took a request with these blocks.
    pub(super) fn given(&self, attachment: &Attachment, blocks: &[BlockHash], cache_tokens: u32) {
        if !blocks.is_empty() {
            self.lock().router.given(attachment.instance, blocks, cache_tokens as usize);
        }
    }

    pub(super) fn attached(&self) -> Vec<Arc<Attachment>> {
        self.lock().attached.clone()
    }

    pub(super) fn ready(&self) -> usize {
        let attached = self.attached();
        attached.iter().filter(|one| one.state() == EngineState::Ready).count()
    }

    /// The least of each over all instances; the last known while there is none.
    pub(super) fn limits(&self) -> Option<EngineLimits> {
        let known: Vec<EngineLimits> =
            self.attached().iter().filter_map(|one| one.client.limits()).collect();
        let least = known.into_iter().reduce(least);
        let mut inner = self.lock();
        inner.limits = least.or(inner.limits);
        inner.limits
    }

    pub(super) fn course(&self) -> Course {
        self.lock().course.clone()
    }

    /// Goes on to a later course; there is no way back.
    pub(super) fn end(&self, next: Course) {
        let mut inner = self.lock();
        let later = match (&inner.course, &next) {
            (Course::Open, _) => true,
            (Course::Draining, Course::Closed { .. }) => true,
            (Course::Draining | Course::Closed { .. }, _) => false,
        };
        if later {
            inner.course = next;
        }
        drop(inner);
        self.change();
    }

    /// Numbers an instance's events among those of all.
    pub(super) fn number(&self, attachment: &Attachment, events: &mut [KvEvent]) {
        self.lock().numbering.number(attachment.id, events);
    }

    /// Changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at an instance until it leaves: its state tells nobody when it changes.
async fn watch(fleet: Weak<Fleet>, attachment: Arc<Attachment>) {
    let mut last = None;
    while attachment.departure().is_none() {
        let Some(fleet) = fleet.upgrade() else { return };
        let state = fleet.notice(&attachment);
        if last.replace(state) != Some(state) {
            fleet.change();
        }
        drop(fleet);
        let departed = attachment.departed();
        let _ = tokio::time::timeout(LOOK, departed).await;
    }
}

fn least(a: EngineLimits, b: EngineLimits) -> EngineLimits {
    EngineLimits {
        max_seq_len: a.max_seq_len.min(b.max_seq_len),
        kv_cache_tokens: a.kv_cache_tokens.min(b.kv_cache_tokens),
        max_queue_size: a.max_queue_size.min(b.max_queue_size),
        vocab_size: a.vocab_size.min(b.vocab_size),
        max_batch_size: a.max_batch_size.min(b.max_batch_size),
        max_beam_width: a.max_beam_width.min(b.max_beam_width),
        max_logits_rows: a.max_logits_rows.min(b.max_logits_rows),
    }
}
