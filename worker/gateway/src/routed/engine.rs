//! The client that the gateway holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use shardrun_metrics::{MetricsPage, ModelLabel, RouteOf};
use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, IterationStats, KvEvent, OutputStream, Refused,
    Request, RequestId,
};
use tokio::sync::{Notify, oneshot, watch};

use super::fleet::{Attachment, Course, Departure, Fleet};
use super::journey::Journey;
use super::merge;
use super::policy::Routing;

/// How long an instance may take to say what happened in it.
const TAKE: Duration = Duration::from_secs(2);

/// How requests are routed and retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Which instance gets a request.
    pub policy: Routing,
    /// Tokens of a block of the instances' caches.
    pub tokens_per_block: u32,
    /// New requests that may wait while no instance takes any.
    pub max_waiting: u32,
    /// A request fails when so many instances died that it was running in.
    pub deaths_allowed: u32,
    /// The deployment's timeout of requests that name none, so that it counts from the first
    /// submission.
    pub request_timeout: Option<Duration>,
    /// How long a new request may wait to start.
    pub queue_timeout: Option<Duration>,
}

/// Several instances of one model, as one engine. A request outlives the instance that runs it, and
/// goes on in another or in one that is attached later, not one token lost or repeated, unless
/// [`RouteConfig::deaths_allowed`] instances died with it.
pub struct RoutedEngine {
    fleet: Arc<Fleet>,
    requests: Requests,
}

impl fmt::Debug for RoutedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedEngine")
            .field("state", &self.state())
            .field("requests", &*self.requests.running.borrow())
            .finish_non_exhaustive()
    }
}

impl RoutedEngine {
    /// A model of which no instance serves yet. On `page` each request that was accepted is counted at its
    /// end, as one of [`Model::TensorrtLlm`](shardrun_metrics::Model::TensorrtLlm).
    #[must_use]
    pub fn new(config: RouteConfig, page: Arc<MetricsPage>) -> Self {
        Self { fleet: Arc::new(Fleet::new(config, page)), requests: Requests::default() }
    }

    /// An instance serves: requests go to it as soon as its state is ready. Whoever had its number
    /// counts as dead. To be called within a Tokio runtime.
    pub fn attach(&self, instance: u32, client: Arc<dyn EngineClient>) {
        self.fleet.attach(instance, client);
    }

    /// An instance is dead: its requests go on elsewhere. Nothing happens if that was noticed before.
    pub fn detach(&self, instance: u32) {
        self.fleet.depart(instance, Departure::Died);
    }

    /// An instance is about to be stopped: it gets no more requests, and those that it has go on
    /// elsewhere, without the death being held against them.
    pub fn retire(&self, instance: u32) {
        self.fleet.depart(instance, Departure::Retired);
    }

    /// Refuses new requests; those that are here go on to their end. There is no way back.
    pub fn drain(&self) {
        self.fleet.end(Course::Draining);
    }

    /// No instance will ever come again: requests that wait for one, or come to do so, fail.
    pub fn close(&self, reason: &str) {
        self.fleet.end(Course::Closed { reason: reason.to_owned() });
    }

    /// Waits until an instance takes requests, or none will.
    pub async fn settled(&self) {
        let mut changes = self.fleet.changes();
        while self.state() == EngineState::Loading {
            // The sender is the fleet's own.
            let _ = changes.changed().await;
        }
    }

    /// Waits until no request is here.
    pub async fn idle(&self) {
        // The sender is this engine's own.
        let _ = self.requests.running.subscribe().wait_for(|&running| running == 0).await;
    }

    /// What a scrape shows of it.
    #[must_use]
    pub fn counts(&self, model: ModelLabel) -> RouteOf {
        let counts = &self.fleet.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RouteOf {
            model,
            resubmitted: load(&counts.resubmitted),
            instance_deaths: load(&counts.instance_deaths),
            waiting: load(&counts.waiting),
            instances_ready: self.fleet.ready() as u64,
        }
    }

    /// Goes on with the counts of the engine in whose place this one is, which has no instance any more.
    pub fn inherit(&self, before: &Self) {
        let (ours, theirs) = (&self.fleet.counts, &before.fleet.counts);
        for (ours, theirs) in [
            (&ours.resubmitted, &theirs.resubmitted),
            (&ours.instance_deaths, &theirs.instance_deaths),
        ] {
            ours.fetch_add(theirs.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Asks all instances at once.
    async fn ask<T: Default>(
        &self,
        question: impl Fn(Arc<Attachment>) -> BoxFuture<'static, T>,
    ) -> Vec<(Arc<Attachment>, T)> {
        let each = self.fleet.attached().into_iter().map(|attachment| {
            let answer = question(attachment.clone());
            async { (attachment, tokio::time::timeout(TAKE, answer).await.unwrap_or_default()) }
        });
        join_all(each).await
    }
}

impl EngineClient for RoutedEngine {
    /// Waits as long as no instance takes it; refused as loading if none ever did.
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        async move {
            match self.fleet.course() {
                Course::Open => {}
                Course::Draining => return Err(Refused::Draining),
                Course::Closed { reason } => return Err(Refused::Unreachable { reason }),
            }
            // Before anything is kept of it.
            self.limits().ok_or(Refused::Loading)?.check(&request)?;
            let registered = self.requests.register(request.id)?;
            let (accept, accepted) = oneshot::channel();
            // On its own: it outlives the call, and a call that is dropped is seen by it.
            tokio::spawn(Journey::new(self.fleet.clone(), request, registered, accept).run());
            let lost = |_| Refused::Unreachable { reason: "the router has ended".to_owned() };
            accepted.await.map_err(lost)?
        }
        .boxed()
    }

    fn cancel(&self, id: RequestId) {
        self.requests.cancel(id);
    }

    fn state(&self) -> EngineState {
        match self.fleet.course() {
            Course::Closed { .. } => EngineState::Stopped,
            Course::Draining => EngineState::Draining,
            Course::Open if self.fleet.ready() > 0 => EngineState::Ready,
            Course::Open => EngineState::Loading,
        }
    }

    fn limits(&self) -> Option<EngineLimits> {
        self.fleet.limits()
    }

    fn why_ended(&self) -> Option<String> {
        match self.fleet.course() {
            Course::Closed { reason } => Some(reason),
            Course::Open | Course::Draining => None,
        }
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        async {
            let each =
                self.ask(|one| async move { one.client.take_iterations().await }.boxed()).await;
            merge::iterations(each.into_iter().map(|(_, stats)| stats).collect())
        }
        .boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        async {
            let each =
                self.ask(|one| async move { one.client.take_kv_events().await }.boxed()).await;
            let mut all = Vec::new();
            for (attachment, mut events) in each {
                self.fleet.number(&attachment, &mut events);
                all.append(&mut events);
            }
            all
        }
        .boxed()
    }
}

/// The requests that are here, by their ids.
#[derive(Clone)]
struct Requests {
    cancels: Arc<Mutex<HashMap<RequestId, Arc<Notify>>>>,
    running: watch::Sender<usize>,
}

impl Default for Requests {
    fn default() -> Self {
        Self { cancels: Arc::default(), running: watch::Sender::new(0) }
    }
}

/// A request's entry, as long as it is here.
pub(super) struct Registered {
    requests: Requests,
    id: RequestId,
    cancel: Arc<Notify>,
}

impl Requests {
    fn register(&self, id: RequestId) -> Result<Registered, Refused> {
        let cancel = Arc::new(Notify::new());
        match self.lock().entry(id) {
            Entry::Vacant(place) => place.insert(cancel.clone()),
            Entry::Occupied(_) => {
                return Err(Refused::Invalid {
                    field: "id".to_owned(),
                    value: id.0.to_string(),
                    allowed: "a request of this id runs already".to_owned(),
                });
            }
        };
        self.running.send_modify(|running| *running += 1);
        Ok(Registered { requests: self.clone(), id, cancel })
    }

    fn cancel(&self, id: RequestId) {
        if let Some(cancel) = self.lock().get(&id) {
            cancel.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Arc<Notify>>> {
        // Each change is one call on the map.
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// Waits until the request is cancelled; told once.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.id);
        self.requests.running.send_modify(|running| *running -= 1);
    }
}
