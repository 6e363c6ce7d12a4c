//! A gateway on ports of its own, for one test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shardrun_gateway::{
    ConnectionLimits, GatewayError, GatewayParts, GatewayState, ListenConfig, Listeners,
    ModelParts, ModelRepository, TextModel, serve,
};
use shardrun_metrics::{MetricsPage, ModelLabel, PageOf, RankOf, render};
use shardrun_wire::{EngineClient, Request, RequestId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Reply, post};
use crate::engine::{Bytes, Call, FakeEngine};

pub(crate) const MAX_BODY_BYTES: usize = 100_000;
/// Of the one model.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(90_000);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The one model's own name.
pub(crate) const MODEL: &str = "tiny";

pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) state: GatewayState,
    calls: UnboundedReceiver<Call>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), GatewayError>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let server = Self::start_loading().await;
        server.load();
        server
    }

    /// One whose text side has not been read yet.
    pub(crate) async fn start_loading() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(repository: Option<Arc<dyn ModelRepository>>) -> Self {
        Self::start_bounded(repository, ConnectionLimits::default()).await
    }

    pub(crate) async fn start_bounded(
        repository: Option<Arc<dyn ModelRepository>>,
        connections: ConnectionLimits,
    ) -> Self {
        let page = new_page();
        let (engine, calls) = FakeEngine::new();
        let rank = RankOf { instance: None, rank: 0, tp_rank: 0, node: "here".to_owned() };
        let pages = [PageOf { model: ModelLabel::plain(), rank: Some(rank), page: page.clone() }];
        let state = GatewayState::new(GatewayParts {
            scrape: Arc::new(move || render(&pages)),
            max_body_bytes: MAX_BODY_BYTES,
            connections,
            repository,
        });
        let parts = ModelParts {
            name: MODEL.to_owned(),
            engine: engine.clone(),
            page,
            default: true,
            request_timeout: Some(REQUEST_TIMEOUT),
        };
        state.add_model(parts).unwrap();
        let listeners = Listeners::bind(&ListenConfig {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: 0,
            metrics_port: 0,
        })
        .unwrap();
        let (http, metrics) =
            (listeners.http_address().unwrap(), listeners.metrics_address().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listeners, state.clone(), async {
            stopped.await.ok();
        }));
        Self { http, metrics, engine, state, calls, stop: Some(stop), task }
    }

    pub(crate) fn load(&self) {
        let text: Arc<dyn TextModel> = Arc::new(Bytes);
        self.state.set_text(MODEL, text).unwrap();
    }

    /// Serves another model.
    pub(crate) fn add(&self, name: &str, engine: Arc<dyn EngineClient>) {
        let name = name.to_owned();
        let parts = ModelParts {
            name: name.clone(),
            engine,
            page: new_page(),
            default: false,
            request_timeout: None,
        };
        self.state.add_model(parts).unwrap();
        self.state.set_text(&name, Arc::new(Bytes)).unwrap();
    }

    pub(crate) async fn generate(&self, body: &str) -> Reply {
        post(self.http, "/v2/models/ensemble/generate", body).await
    }

    pub(crate) async fn stream(&self, body: &str) -> Reply {
        post(self.http, "/v2/models/ensemble/generate_stream", body).await
    }

    /// `generate` of the model that takes tokens.
    pub(crate) async fn tokens(&self, body: &str) -> Reply {
        post(self.http, "/v2/models/tensorrt_llm/generate", body).await
    }

    /// The next request that reaches the engine.
    pub(crate) async fn submitted(&mut self) -> Request {
        match self.call().await {
            Call::Submit(request) => *request,
            Call::Cancel(id) => panic!("{id:?} was cancelled"),
        }
    }

    /// The next request that is cancelled.
    pub(crate) async fn cancelled(&mut self) -> RequestId {
        match self.call().await {
            Call::Cancel(id) => id,
            Call::Submit(request) => panic!("{request:?} was submitted"),
        }
    }

    async fn call(&mut self) -> Call {
        tokio::time::timeout(PATIENCE, self.calls.recv()).await.unwrap().unwrap()
    }

    pub(crate) fn no_calls(&mut self) {
        assert!(self.calls.try_recv().is_err());
    }

    /// Tells it to stop.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// The value of a series.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = crate::client::get(self.metrics, "/metrics").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    /// Waits until a series has a value.
    pub(crate) async fn metric_becomes(&self, series: &str, value: f64) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.metric(series).await;
            if now == value {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{series} is {now}, not {value}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A page of its own.
pub(crate) fn new_page() -> Arc<MetricsPage> {
    static PAGES: AtomicUsize = AtomicUsize::new(0);
    let rank = PAGES.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("shardrun_test_gateway_{}_", std::process::id());
    Arc::new(MetricsPage::create(&prefix, rank).unwrap())
}
