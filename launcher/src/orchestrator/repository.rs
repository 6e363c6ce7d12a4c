//! Models loaded, unloaded and replaced while others serve.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use shardrun_config::{Allocation, Deployment, Layout, Model, ModelSource};
use shardrun_gateway::{
    GatewayState, IndexEntry, ModelParts, ModelRepository, ModelState, RepositoryError,
};
use shardrun_metrics::{MetricsPage, ModelLabel};
use tokio::sync::Mutex;

use super::lineup::{Lineup, Served, Stage};
use super::text;
use crate::fetch;
use crate::progress;
use crate::starter::{self, Generation, Placement};
use crate::supervisor::Event;

/// Reads the deployment again, as it is now.
pub(crate) type Reload = Box<dyn Fn() -> anyhow::Result<Deployment> + Send + Sync>;

/// Changes which models a deployment serves.
pub(super) struct Repository {
    /// As it runs: what is not a model's never changes.
    running: Deployment,
    /// The run's directory.
    folder: PathBuf,
    allocation: Allocation,
    reload: Reload,
    lineup: Arc<Lineup>,
    /// Set once, before any request can come.
    gateway: OnceLock<GatewayState>,
    events: std::sync::Mutex<Sender<Event>>,
    /// What shared-memory names of the gateway begin with.
    prefix: String,
    next_instance: AtomicU32,
    next_model: AtomicU32,
    /// One change at a time.
    changing: Mutex<()>,
}

/// What a repository is put together from.
pub(super) struct RepositoryParts {
    pub(super) running: Deployment,
    pub(super) folder: PathBuf,
    pub(super) allocation: Allocation,
    pub(super) reload: Reload,
    pub(super) lineup: Arc<Lineup>,
    pub(super) events: Sender<Event>,
    pub(super) prefix: String,
}

impl Repository {
    pub(super) fn new(parts: RepositoryParts) -> Self {
        let RepositoryParts { running, folder, allocation, reload, lineup, events, prefix } = parts;
        let next_instance = AtomicU32::new(running.instances().count() as u32);
        let next_model = AtomicU32::new(running.models.len() as u32);
        Self {
            running,
            folder,
            allocation,
            reload,
            lineup,
            gateway: OnceLock::new(),
            events: std::sync::Mutex::new(events),
            prefix,
            next_instance,
            next_model,
            changing: Mutex::default(),
        }
    }

    /// The gateway that serves the models.
    pub(super) fn set_gateway(&self, gateway: GatewayState) {
        let _ = self.gateway.set(gateway);
    }

    async fn load(&self, name: &str) -> anyhow::Result<()> {
        self.check_worlds()?;
        let _one = self.changing.lock().await;
        let gateway = self.gateway.get().ok_or_else(|| anyhow::anyhow!("it is not open yet"))?;
        let (deployment, model) = tokio::task::block_in_place(|| self.read(name))?;
        let before = self.lineup.model(name);
        if before.as_ref().is_some_and(|it| it.model == model && it.stage() == Stage::Serving) {
            return Ok(());
        }
        let served = Arc::new(self.start(deployment, &model)?);
        // Replaced models keep their place among the names.
        self.lineup.enter(served.clone());
        let text = tokio::task::spawn_blocking({
            let source = model.source.clone();
            move || text(&source)
        });
        let serves = async {
            let text = text.await??;
            match served.reaches(|stage| *stage != Stage::Loading).await {
                Stage::Serving => {}
                Stage::Failed(why) => anyhow::bail!("{why}"),
                stage => anyhow::bail!("it was {stage:?} before it served"),
            }
            let parts = ModelParts {
                name: name.to_owned(),
                engine: served.engine.clone(),
                page: served.page.clone(),
                default: served.label == ModelLabel::plain(),
            };
            let text = Arc::new(text);
            match &before {
                Some(_) => gateway.replace(parts, text)?,
                None => {
                    gateway.add_model(parts)?;
                    gateway.set_text(name, text)?;
                }
            }
            Ok(())
        };
        if let Err(error) = serves.await {
            self.end(&served).await;
            return Err(error);
        }
        if let Some(before) = before {
            self.end(&before).await;
        }
        Ok(())
    }

    async fn unload(&self, name: &str) -> anyhow::Result<()> {
        self.check_worlds()?;
        let _one = self.changing.lock().await;
        let Some(served) = self.lineup.model(name) else { return Ok(()) };
        if let Some(gateway) = self.gateway.get() {
            gateway.remove_model(name)?;
        }
        self.end(&served).await;
        Ok(())
    }

    /// Ranks of one world come and go together.
    fn check_worlds(&self) -> Result<(), RepositoryError> {
        match self.running.shares_a_world() {
            true => Err(RepositoryError::Refused {
                reason:
                    "all models are in one MPI world (model.participant_ids), which starts and \
                         ends as a whole"
                        .to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// The deployment as it is now, with the model settled.
    fn read(&self, name: &str) -> anyhow::Result<(Deployment, Model)> {
        let read = (self.reload)()?;
        let mut deployment = self.running.clone();
        deployment.models = read.models;
        let model = deployment.models.iter_mut().find(|model| model.name == name);
        let model = model.ok_or_else(|| RepositoryError::Unknown { name: name.to_owned() })?;
        let mut progress = progress::on_stderr();
        let path = fetch::resolve_model(&model.source, model.sha256.as_ref(), progress.as_mut())?;
        model.source = ModelSource::Path(path);
        let model = model.clone();
        Ok((deployment, model))
    }

    /// Has the instances of a model started, beside those that run.
    fn start(&self, deployment: Deployment, model: &Model) -> anyhow::Result<Served> {
        let layout = Layout::new(&deployment, &self.allocation)?;
        let number = self.next_model.fetch_add(1, Ordering::Relaxed);
        let config = self.folder.join(format!("deployment.{number}.toml"));
        std::fs::write(&config, deployment.to_toml()?)?;
        starter::write_layout(&config, &layout)?;
        let page = Arc::new(MetricsPage::create(&self.prefix, number as usize)?);
        let places: Vec<usize> = (0..)
            .zip(deployment.instances())
            .filter_map(|(place, it)| (it.name == model.name).then_some(place))
            .collect();
        let count = places.len() as u32;
        let first = self.next_instance.fetch_add(count, Ordering::Relaxed);
        let instances: Vec<u32> = (first..first + count).collect();
        let default = self.running.models.first().is_some_and(|it| it.name == model.name);
        let label = if default { ModelLabel::plain() } else { ModelLabel::suffixed(&model.name) };
        let generation = Arc::new(Generation { deployment, layout, config });
        let events = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (&instance, place) in instances.iter().zip(places) {
            let name = generation.deployment.instance_name(place);
            let placement = Placement { generation: generation.clone(), place };
            let model = model.name.clone();
            events.send(Event::Add { instance, model, name, placement })?;
        }
        Ok(Served::new(model.clone(), label, page, instances))
    }

    /// Lets a model's requests finish, within the drain timeout, and ends its instances.
    async fn end(&self, served: &Arc<Served>) {
        served.engine.drain();
        let patience = self.running.supervision.drain_timeout;
        let _ = tokio::time::timeout(patience, served.engine.idle()).await;
        served.set_stage(Stage::Ending);
        {
            let events = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for &instance in &served.instances {
                // The receiver is gone when the whole deployment ends.
                let _ = events.send(Event::Remove { instance });
            }
        }
        let longest = patience + Duration::from_secs(10);
        let _ = tokio::time::timeout(longest, served.reaches(|stage| *stage == Stage::Gone)).await;
        served.engine.close("the model was unloaded");
        self.lineup.leave(served);
    }
}

impl ModelRepository for Repository {
    fn index(&self) -> BoxFuture<'_, Vec<IndexEntry>> {
        Box::pin(async {
            let served = self.lineup.models();
            let mut entries: Vec<IndexEntry> = served.iter().map(|served| entry(served)).collect();
            // Those of the file that are not loaded; a file that can't be read now has none.
            let read = tokio::task::block_in_place(|| (self.reload)());
            let names = read.map(|deployment| deployment.models).unwrap_or_default();
            for name in names.into_iter().map(|model| model.name) {
                if !entries.iter().any(|entry| entry.name == name) {
                    let reason = "unloaded".to_owned();
                    entries.push(IndexEntry { name, state: ModelState::Unavailable, reason });
                }
            }
            entries
        })
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RepositoryError>> {
        Box::pin(async move { self.load(name).await.map_err(|error| failed(name, error)) })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RepositoryError>> {
        Box::pin(async move {
            if self.lineup.model(name).is_none()
                && !self.running.models.iter().any(|model| model.name == name)
            {
                return Err(RepositoryError::Unknown { name: name.to_owned() });
            }
            self.unload(name).await.map_err(|error| failed(name, error))
        })
    }
}

fn entry(served: &Served) -> IndexEntry {
    let (state, reason) = match served.stage() {
        Stage::Loading => (ModelState::Loading, String::new()),
        Stage::Serving => (ModelState::Ready, String::new()),
        Stage::Ending => (ModelState::Unloading, String::new()),
        Stage::Failed(why) => (ModelState::Unavailable, why),
        Stage::Gone => (ModelState::Unavailable, "unloaded".to_owned()),
    };
    IndexEntry { name: served.model.name.clone(), state, reason }
}

fn failed(name: &str, error: anyhow::Error) -> RepositoryError {
    match error.downcast::<RepositoryError>() {
        Ok(error) => error,
        Err(error) => RepositoryError::Failed { reason: format!("{name}: {error:#}") },
    }
}
