//! The models that are served, each with its instances as one engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardrun_config::{Model, Routing as Policy};
use shardrun_gateway::{ModelState, RouteConfig, RoutedEngine, Routing};
use shardrun_metrics::{MetricsPage, ModelLabel};
use shardrun_wire::{EngineClient as _, EngineState};
use tokio::sync::watch;

/// How many instances may die with a request before it fails: one that kills them must not go on.
const DEATHS_ALLOWED: u32 = 2;

/// A model, as one file of the deployment describes it.
pub(super) struct Served {
    /// With its source settled.
    pub(super) model: Model,
    pub(super) label: ModelLabel,
    pub(super) engine: Arc<RoutedEngine>,
    /// Where its requests are counted, and those of the models whose place it took.
    pub(super) page: Arc<MetricsPage>,
    /// The numbers of its instances.
    pub(super) instances: Vec<u32>,
    stage: watch::Sender<Stage>,
    /// Instances of which something may be left.
    left: Mutex<BTreeSet<u32>>,
}

/// How far a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// None of its instances has served yet.
    Loading,
    /// One has.
    Serving,
    /// It was told to end.
    Ending,
    /// None will.
    Failed(String),
    /// Nothing of it is left.
    Gone,
}

impl Served {
    pub(super) fn new(
        model: Model,
        label: ModelLabel,
        page: Arc<MetricsPage>,
        instances: Vec<u32>,
    ) -> Self {
        let engine = Arc::new(RoutedEngine::new(route(&model), page.clone()));
        let left = Mutex::new(instances.iter().copied().collect());
        Self {
            model,
            label,
            engine,
            page,
            instances,
            stage: watch::Sender::new(Stage::Loading),
            left,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    fn set_stage(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// What it is for clients now, and why it takes no requests, if that is known.
    pub(super) fn state(&self) -> (ModelState, String) {
        let why_ended = || self.engine.why_ended().unwrap_or_default();
        match (self.stage(), self.engine.state()) {
            (Stage::Failed(why), _) => (ModelState::Unavailable, why),
            (Stage::Gone, _) => (ModelState::Unavailable, "unloaded".to_owned()),
            (Stage::Ending, _) | (Stage::Serving, EngineState::Draining) => {
                (ModelState::Unloading, String::new())
            }
            (Stage::Loading, _) => (ModelState::Loading, String::new()),
            (Stage::Serving, EngineState::Ready) => (ModelState::Ready, String::new()),
            (Stage::Serving, EngineState::Loading) => {
                (ModelState::Loading, "no instance takes requests now".to_owned())
            }
            (Stage::Serving, EngineState::Stopped) => (ModelState::Unavailable, why_ended()),
        }
    }

    /// Waits for a stage that is wanted.
    pub(super) async fn reaches(&self, wanted: impl Fn(&Stage) -> bool) -> Stage {
        let mut stages = self.stage.subscribe();
        match stages.wait_for(|stage| wanted(stage)).await {
            Ok(stage) => stage.clone(),
            // The sender is this model's own.
            Err(_) => Stage::Gone,
        }
    }

    /// Whether it serves, or will.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.stage(), Stage::Loading | Stage::Serving)
    }

    /// Is to end, if anything is left of it.
    pub(super) fn ends(&self) {
        let left = self.left();
        self.set_stage(if left.is_empty() { Stage::Gone } else { Stage::Ending });
    }

    /// Nothing is left of an instance, because of `why`; says whether that holds for all of them.
    fn without(&self, instance: u32, why: &str) -> bool {
        let mut left = self.left();
        left.remove(&instance);
        if left.is_empty() {
            self.set_stage(match self.stage() {
                Stage::Ending | Stage::Gone => Stage::Gone,
                Stage::Loading | Stage::Serving | Stage::Failed(_) => Stage::Failed(why.to_owned()),
            });
        }
        left.is_empty()
    }

    fn left(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The models of a deployment, and whose each instance is.
#[derive(Default)]
pub(super) struct Lineup(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The default one first.
    models: Vec<Arc<Served>>,
    of_instance: BTreeMap<u32, Arc<Served>>,
}

impl Lineup {
    /// A model whose instances are about to start.
    pub(super) fn enter(&self, served: Arc<Served>) {
        let mut inner = self.lock();
        for &instance in &served.instances {
            inner.of_instance.insert(instance, served.clone());
        }
        inner.models.push(served);
    }

    /// Takes a model away; its instances are still known.
    pub(super) fn leave(&self, served: &Arc<Served>) {
        self.lock().models.retain(|it| !Arc::ptr_eq(it, served));
    }

    /// The models, in the order in which they came.
    pub(super) fn models(&self) -> Vec<Arc<Served>> {
        self.lock().models.clone()
    }

    /// The latest model of this name.
    pub(super) fn model(&self, name: &str) -> Option<Arc<Served>> {
        self.lock().models.iter().rfind(|served| served.model.name == name).cloned()
    }

    /// Whether a model serves, and none is waited for: each serves or will not.
    pub(super) fn has_come(&self) -> bool {
        let stages: Vec<Stage> = self.models().iter().map(|served| served.stage()).collect();
        stages.contains(&Stage::Serving) && !stages.contains(&Stage::Loading)
    }

    /// Whose an instance is.
    pub(super) fn of(&self, instance: u32) -> Option<Arc<Served>> {
        self.lock().of_instance.get(&instance).cloned()
    }

    /// An instance serves.
    pub(super) fn serving(&self, instance: u32) -> Option<Arc<Served>> {
        let served = self.of(instance)?;
        if served.stage() == Stage::Loading {
            served.set_stage(Stage::Serving);
        }
        Some(served)
    }

    /// Nothing is left of an instance that will not be started again, because of `why`. Gives its model,
    /// and whether it has another one.
    pub(super) fn gone(&self, instance: u32, why: &str) -> Option<(Arc<Served>, bool)> {
        let served = self.of(instance)?;
        let was_last = served.without(instance, why);
        Some((served, !was_last))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn route(model: &Model) -> RouteConfig {
    RouteConfig {
        policy: match model.routing {
            Policy::RoundRobin => Routing::RoundRobin,
            Policy::LeastLoaded => Routing::LeastLoaded,
            Policy::PrefixAware => Routing::PrefixAware,
        },
        tokens_per_block: model.kv_cache.tokens_per_block as u32,
        max_waiting: model.max_queue_size as u32,
        deaths_allowed: DEATHS_ALLOWED,
        request_timeout: model.request_timeout,
        queue_timeout: model.queue_timeout,
    }
}
