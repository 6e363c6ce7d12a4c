//! Orchestrator mode's gateway: in the supervisor's process, outside every MPI world, for all models.

mod ending;
mod lineup;
mod repository;
mod scraped;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use shardrun_config::{Allocation, ModelSource, RunDir};
use shardrun_files::Gguf;
use shardrun_gateway::{
    ConnectionLimits, GatewayParts, GatewayState, ListenConfig, Listeners, ModelParts,
};
use shardrun_metrics::{MetricsPage, ModelLabel};
use shardrun_text::Tokenizer;
use shardrun_wire::lifeline::RankId;
use shardrun_wire::{EngineClient as _, EngineState, EngineStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::supervisor::{Ended, Event};
use ending::Ending;
use lineup::{Lineup, Served};
pub(crate) use repository::Reload;
use repository::{Repository, RepositoryParts};
use scraped::Scraped;

/// How much later than on its lifeline an instance may say on its engine's line that it serves.
const REACHED: Duration = Duration::from_secs(2);
/// Time between two looks whether that, or the last response, has come.
const LOOK: Duration = Duration::from_millis(10);

/// How long the last responses may take to go out.
const LAST_RESPONSES: Duration = Duration::from_secs(2);

/// The gateway of a deployment, as the supervisor sees it.
pub(crate) struct Orchestrator {
    runtime: Runtime,
    lineup: Arc<Lineup>,
    scraped: Arc<Scraped>,
    addresses: (SocketAddr, SocketAddr),
    /// Whether the user knows that it serves, or need not know any more.
    announced: bool,
    /// They read the tokenizers.
    texts: Vec<JoinHandle<anyhow::Result<()>>>,
    events: Sender<Event>,
    end: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Orchestrator {
    /// Answers HTTP from now on; models are ready once one of their instances serves. `reload` reads the
    /// deployment again.
    pub(crate) fn start(
        run: &RunDir,
        host: &str,
        allocation: Allocation,
        events: Sender<Event>,
        reload: Reload,
    ) -> anyhow::Result<Self> {
        let deployment = &run.deployment;
        let server = &deployment.server;
        let listeners = Listeners::bind(&ListenConfig {
            host: server.host,
            http_port: server.http_port,
            metrics_port: server.metrics_port,
        })?;
        let addresses = (listeners.http_address()?, listeners.metrics_address()?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gateway")
            .enable_all()
            .build()
            .context("cannot start the gateway's threads")?;
        let prefix = deployment.run.shm_prefix.as_ref().context("a run has a shm_prefix")?;
        let lineup = Arc::new(Lineup::default());
        let scraped =
            Arc::new(Scraped::new(lineup.clone(), host.to_owned(), prefix.as_str().to_owned()));
        let own_prefix = format!("{}g_", prefix.as_str());
        let repository = Arc::new(Repository::new(RepositoryParts {
            running: deployment.clone(),
            folder: run.path.clone(),
            allocation,
            reload,
            lineup: lineup.clone(),
            ending: Ending {
                scraped: scraped.clone(),
                events: events.clone(),
                drain_timeout: deployment.supervision.drain_timeout,
            },
            prefix: own_prefix.clone(),
        }));
        let state = GatewayState::new(GatewayParts {
            scrape: {
                let scraped = scraped.clone();
                Arc::new(move || scraped.render())
            },
            max_body_bytes: server.max_body_bytes,
            connections: ConnectionLimits::default(),
            repository: Some(repository.clone()),
        });
        repository.set_gateway(state.clone());

        let mut texts = Vec::new();
        let mut first = 0;
        for (number, model) in deployment.models.iter().enumerate() {
            let label = match number {
                0 => ModelLabel::plain(),
                _ => ModelLabel::suffixed(&model.name),
            };
            let page = Arc::new(MetricsPage::create(&own_prefix, number)?);
            let instances = first..first + model.instances as u32;
            first = instances.end;
            let served = Served::new(model.clone(), label, page.clone(), instances.collect());
            let (name, engine) = (model.name.clone(), served.engine.clone());
            let (default, request_timeout) = (number == 0, model.request_timeout);
            state.add_model(ModelParts { name, engine, page, default, request_timeout })?;
            lineup.enter(Arc::new(served));
            let (state, name, source) = (state.clone(), model.name.clone(), model.source.clone());
            let read = move || Ok(state.set_text(&name, Arc::new(text(&source)?))?);
            texts.push(std::thread::Builder::new().name("tokenizer".into()).spawn(read)?);
        }
        let (end, mut ended) = watch::channel(false);
        let handle = runtime.handle().clone();
        let serve = move || {
            let over = async move {
                // An error means that the sender is gone, which is an end, too.
                let _ = ended.wait_for(|&ended| ended).await;
            };
            if let Err(error) = handle.block_on(shardrun_gateway::serve(listeners, state, over)) {
                eprintln!("the gateway failed: {error}");
            }
        };
        let serving = std::thread::Builder::new().name("gateway".into()).spawn(serve)?;
        let announced = false;
        Ok(Self { runtime, lineup, scraped, addresses, announced, texts, events, end, serving })
    }

    /// A leader's engine is there: requests go to it as soon as it takes them.
    pub(crate) fn engine(&self, id: RankId, stream: EngineStream) {
        let Some(served) = self.lineup.of(id.instance) else { return };
        self.runtime.spawn(async move {
            match stream.into_client().await {
                Ok(client) => served.engine.attach(id.instance, Arc::new(client)),
                // Unless it ends, which the lifeline tells, its leader offers it again.
                Err(error) => {
                    eprintln!("the engine of instance {} can't be used: {error}", id.instance);
                }
            }
        });
    }

    /// An instance serves. Gives the addresses of HTTP and metrics, once, when every model serves or was
    /// given up.
    ///
    /// # Errors
    /// If a tokenizer can't be read.
    pub(crate) fn serving(&mut self, instance: u32) -> anyhow::Result<Option<(String, String)>> {
        let Some(served) = self.lineup.serving(instance) else { return Ok(None) };
        self.scraped.opened(instance, &served);
        self.announce()
    }

    /// The addresses, the first time that no model is still loading and one serves.
    fn announce(&mut self) -> anyhow::Result<Option<(String, String)>> {
        if self.announced || !self.lineup.has_come() {
            return Ok(None);
        }
        for text in self.texts.drain(..) {
            text.join().unwrap_or_else(|_| bail!("reading a tokenizer panicked"))?;
        }
        let until = Instant::now() + REACHED;
        let reached = |served: &Arc<Served>| served.engine.state() != EngineState::Loading;
        // Who is told that it is ready asks at once.
        while !self.lineup.models().iter().all(reached) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.announced = true;
        Ok(Some((self.addresses.0.to_string(), self.addresses.1.to_string())))
    }

    /// A rank on another node has said what it has counted.
    pub(crate) fn counted(&self, id: RankId, host: &str, words: &[u64]) {
        self.scraped.heard(id.instance, id.rank, host, words);
    }

    /// Nothing of an instance is left: its requests go on elsewhere, or wait until it is there `again`. Gives
    /// what [`Orchestrator::serving`] does if this one's model was all that was waited for.
    pub(crate) fn gone(
        &mut self,
        instance: u32,
        ended: Option<&Ended>,
        again: bool,
    ) -> Option<(String, String)> {
        self.leave(instance, ended, again);
        self.announce().unwrap_or_else(|error| {
            eprintln!("{error:#}");
            None
        })
    }

    fn leave(&self, instance: u32, ended: Option<&Ended>, again: bool) {
        self.scraped.closed(instance);
        // Requests that go on elsewhere need the runtime.
        let _inside = self.runtime.enter();
        if again {
            if let Some(served) = self.lineup.of(instance) {
                served.engine.detach(instance);
            }
            return;
        }
        let why = ended.map_or_else(|| "it was stopped".to_owned(), ToString::to_string);
        let why = why.lines().next().unwrap_or_default();
        let Some((served, others)) = self.lineup.gone(instance, why) else { return };
        served.engine.detach(instance);
        if !others {
            let name = &served.model.name;
            served.engine.close(&format!("{name} has no instance any more: {why}"));
        }
    }

    /// Takes no new requests, and says when the running ones have ended.
    pub(crate) fn drain(&mut self) {
        self.announced = true;
        let models = self.lineup.models();
        let events = self.events.clone();
        self.runtime.spawn(async move {
            models.iter().for_each(|served| served.engine.drain());
            for served in &models {
                served.engine.idle().await;
            }
            let _ = events.send(Event::Idle);
        });
    }

    /// Lets the last responses go out.
    pub(crate) fn finish(self) {
        let _ = self.end.send(true);
        let until = Instant::now() + LAST_RESPONSES;
        while !self.serving.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.runtime.shutdown_background();
    }
}

/// A model's tokenizer, which takes a while to read.
fn text(source: &ModelSource) -> anyhow::Result<Tokenizer> {
    let ModelSource::Path(path) = source else { bail!("a settled deployment's source is a path") };
    let file = Gguf::open(path).context("cannot read the model's tokenizer")?;
    Ok(Tokenizer::from_gguf(&file)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
