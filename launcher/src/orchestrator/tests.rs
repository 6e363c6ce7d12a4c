use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use shardrun_config::{Deployment, NodeAllocation};
use shardrun_gateway::{ModelRepository, ModelState, RepositoryError};
use shardrun_metrics::ModelCounter;
use shardrun_wire::{
    EngineClient, EngineLimits, FinishReason, Finished, IterationStats, KvEvent, OutputSink,
    OutputStream, Refused, Request, RequestId, output_stream,
};
use tokio::task::JoinHandle as Task;
use tokio::time::{sleep, timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const DRAIN_TIMEOUT: Duration = Duration::from_millis(20);

/// An engine whose requests end when a test says so.
#[derive(Default)]
struct Held(Mutex<Vec<OutputSink>>);

impl Held {
    fn ends(&self) {
        for sink in self.0.lock().unwrap().drain(..) {
            let reason = FinishReason::Length;
            sink.finish(Finished { sequence: 0, reason, score: None, account: None });
        }
    }
}

impl EngineClient for Held {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        let (sink, outputs) = output_stream(&request);
        self.0.lock().unwrap().push(sink);
        ready(Ok(outputs)).boxed()
    }

    fn cancel(&self, _: RequestId) {}

    fn state(&self) -> EngineState {
        EngineState::Ready
    }

    fn limits(&self) -> Option<EngineLimits> {
        Some(EngineLimits {
            max_seq_len: 100,
            kv_cache_tokens: 100,
            max_queue_size: 8,
            vocab_size: 10,
            max_batch_size: 8,
            max_beam_width: 1,
            max_logits_rows: 0,
        })
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        ready(Vec::new()).boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        ready(Vec::new()).boxed()
    }
}

/// `alpha` and `beta` with an instance each, 0 and 1, and no process.
struct House {
    lineup: Arc<Lineup>,
    scraped: Arc<Scraped>,
    repository: Arc<Repository>,
    events: Receiver<Event>,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.gguf");
        std::fs::write(&file, "no model").unwrap();
        let text = format!(
            "name = \"d\"\nmode = \"orchestrator\"\nrun.dir = \"/r\"\n\
             supervision.drain_timeout_ms = {}\n\
             models.alpha.source = {file:?}\nmodels.beta.source = {file:?}\n",
            DRAIN_TIMEOUT.as_millis()
        );
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let lineup = Arc::new(Lineup::default());
        let scraped = Arc::new(Scraped::new(lineup.clone(), "here".into(), "none".into()));
        for (number, model) in (0..).zip(&deployment.models) {
            let label =
                if number == 0 { ModelLabel::plain() } else { ModelLabel::suffixed("beta") };
            lineup.enter(served(model, label, number));
        }
        let (sender, events) = channel();
        let drain_timeout = deployment.supervision.drain_timeout;
        let cores = vec![0, 1, 2, 3];
        let node = NodeAllocation { host: "here".into(), cores, cpu_limit: None, slots: None };
        let reread = deployment.clone();
        let repository = Arc::new(Repository::new(RepositoryParts {
            running: deployment,
            folder: folder.path().to_owned(),
            allocation: Allocation { nodes: vec![node] },
            reload: Box::new(move || Ok(reread.clone())),
            lineup: lineup.clone(),
            ending: Ending { scraped: scraped.clone(), events: sender, drain_timeout },
            prefix: "none".to_owned(),
        }));
        let state = GatewayState::new(GatewayParts {
            scrape: Arc::new(String::new),
            max_body_bytes: 1024,
            connections: ConnectionLimits::default(),
            repository: None,
        });
        for served in lineup.models() {
            state.add_model(parts(&served)).unwrap();
        }
        repository.set_gateway(state);
        Self { lineup, scraped, repository, events, folder }
    }

    /// An instance serves, with an engine.
    fn serves(&self, instance: u32) -> Arc<Held> {
        let engine = Arc::new(Held::default());
        self.lineup.serving(instance).unwrap().engine.attach(instance, engine.clone());
        engine
    }

    fn spawn(&self, unload: bool, name: &'static str) -> Task<Result<(), RepositoryError>> {
        let repository = self.repository.clone();
        tokio::spawn(async move {
            let repository: &dyn ModelRepository = &*repository;
            match unload {
                true => repository.unload(name).await,
                false => repository.load(name).await,
            }
        })
    }

    async fn index(&self) -> Vec<(String, ModelState, String)> {
        let repository: &dyn ModelRepository = &*self.repository;
        let entries = repository.index().await;
        entries.into_iter().map(|entry| (entry.name, entry.state, entry.reason)).collect()
    }
}

fn served(model: &shardrun_config::Model, label: ModelLabel, instance: u32) -> Arc<Served> {
    let page = Arc::new(MetricsPage::in_memory());
    Arc::new(Served::new(model.clone(), label, page, vec![instance]))
}

fn parts(served: &Served) -> ModelParts {
    ModelParts {
        name: served.model.name.clone(),
        engine: served.engine.clone(),
        page: served.page.clone(),
        default: served.label == ModelLabel::plain(),
        request_timeout: None,
    }
}

async fn done<T>(task: Task<T>) -> T {
    timeout(PATIENCE, task).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_waits_for_a_model_that_is_loading() {
    let house = House::new();
    let load = house.spawn(false, "alpha");
    sleep(Duration::from_millis(50)).await;
    let busy = RepositoryError::Busy { name: "alpha".into(), doing: "being loaded" };
    assert_eq!(done(house.spawn(false, "alpha")).await, Err(busy.clone()));
    assert_eq!(done(house.spawn(true, "alpha")).await, Err(busy));
    let other = house.spawn(false, "beta");
    house.lineup.serving(0).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert!(!load.is_finished(), "its engine has not been reached");
    house.serves(0);
    assert_eq!(done(load).await, Ok(()));
    // What will never serve says why.
    house.lineup.gone(1, "no memory");
    let reason = "beta: no memory".to_owned();
    assert_eq!(done(other).await, Err(RepositoryError::Failed { reason }));
    assert!(house.events.try_recv().is_err(), "no second copy is started");
    assert_eq!(done(house.spawn(false, "alpha")).await, Ok(()), "it serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_outlive_the_drain_timeout_of_their_model() {
    let house = House::new();
    let engine = house.serves(0);
    let served = house.lineup.of(0).unwrap();
    let request = Request::new(RequestId(1), vec![1], 9);
    let mut outputs = served.engine.submit(request).await.unwrap();
    let unload = house.spawn(true, "alpha");
    sleep(10 * DRAIN_TIMEOUT).await;
    assert!(house.events.try_recv().is_err(), "its instance is not ended yet");
    assert_eq!(house.index().await[0].1, ModelState::Unloading);
    engine.ends();
    while outputs.next().await.is_some() {}
    assert!(outputs.is_finished());
    let removed = tokio::task::block_in_place(|| house.events.recv_timeout(PATIENCE)).unwrap();
    assert!(matches!(removed, Event::Remove { instance: 0 }));
    assert!(!unload.is_finished());
    house.lineup.gone(0, "it was stopped");
    assert_eq!(done(unload).await, Ok(()));
    let unloaded = ("alpha".to_owned(), ModelState::Unavailable, "unloaded".to_owned());
    assert_eq!(house.index().await[1], unloaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_an_instance_ends_at_once() {
    let house = House::new();
    house.lineup.gone(0, "no memory");
    assert_eq!(done(house.spawn(true, "alpha")).await, Ok(()));
    assert!(house.lineup.model("alpha").is_none());
    assert!(house.folder.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_tells_what_clients_get() {
    let house = House::new();
    let entry = |name: &str, state, reason: &str| (name.to_owned(), state, reason.to_owned());
    let beta = entry("beta", ModelState::Loading, "");
    assert_eq!(house.index().await, [entry("alpha", ModelState::Loading, ""), beta.clone()]);
    house.serves(0);
    assert_eq!(house.index().await, [entry("alpha", ModelState::Ready, ""), beta.clone()]);
    // The one that takes its place comes.
    let alpha = house.lineup.of(0).unwrap();
    house.lineup.enter(served(&alpha.model, alpha.label.clone(), 2));
    assert_eq!(house.index().await, [entry("alpha", ModelState::Ready, ""), beta.clone()]);
    house.serves(2);
    alpha.engine.drain();
    assert_eq!(house.index().await, [entry("alpha", ModelState::Ready, ""), beta.clone()]);
    house.scraped.leaves(&alpha, None);
    // It is started again.
    let alpha = house.lineup.of(2).unwrap();
    alpha.engine.detach(2);
    let restarting = entry("alpha", ModelState::Loading, "no instance takes requests now");
    assert_eq!(house.index().await, [beta.clone(), restarting]);
    // And given up.
    house.lineup.gone(2, "no memory");
    let failed = entry("alpha", ModelState::Unavailable, "no memory");
    assert_eq!(house.index().await, [beta, failed]);
}

#[tokio::test]
async fn a_replaced_model_is_scraped_as_one_and_its_counts_stay() {
    let house = House::new();
    house.serves(0);
    let before = house.lineup.of(0).unwrap();
    before.page.model(shardrun_metrics::Model::Ensemble, ModelCounter::Succeeded).add(3);
    before.engine.detach(0);
    let (model, label) = (before.model.clone(), before.label.clone());
    let heir = Arc::new(Served::new(model, label, before.page.clone(), vec![2]));
    house.lineup.enter(heir.clone());
    house.serves(2);
    let counts = || {
        let text = house.scraped.render();
        [
            "nv_inference_request_success{model=\"ensemble\"",
            "shardrun_instance_deaths_total{model=\"tensorrt_llm\"",
        ]
        .map(|series| {
            let found: Vec<&str> = text.lines().filter(|it| it.starts_with(series)).collect();
            let [line] = found[..] else { panic!("{found:?}") };
            line.rsplit_once(' ').unwrap().1.to_owned()
        })
    };
    assert_eq!(counts(), ["3", "1"]);
    house.scraped.leaves(&before, Some(&heir));
    assert_eq!(counts(), ["3", "1"]);
    assert!(!house.lineup.models().iter().any(|it| Arc::ptr_eq(it, &before)));
}

#[tokio::test]
async fn a_model_that_was_given_up_is_not_waited_for() {
    let house = House::new();
    assert!(!house.lineup.has_come());
    house.serves(1);
    assert!(!house.lineup.has_come(), "alpha may come");
    house.lineup.gone(0, "no memory");
    assert!(house.lineup.has_come());
    house.lineup.gone(1, "no memory");
    assert!(!house.lineup.has_come(), "none serves");
}
