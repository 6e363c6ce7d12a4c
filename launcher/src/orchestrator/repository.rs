//! Models loaded, unloaded and replaced while others serve.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use shardrun_config::{Allocation, Deployment, Layout, Model, ModelSource};
use shardrun_gateway::{
    GatewayState, IndexEntry, ModelParts, ModelRepository, ModelState, RepositoryError,
};
use shardrun_metrics::{MetricsPage, ModelLabel};

use super::ending::Ending;
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
    ending: Ending,
    /// What shared-memory names of the gateway begin with.
    prefix: String,
    next_instance: AtomicU32,
    next_model: AtomicU32,
    changing: Changing,
}

/// The models that are being changed, and what is done with each: one change of a model at a time.
type Changing = Arc<Mutex<BTreeMap<String, &'static str>>>;

/// A model's place among them.
struct Change {
    changing: Changing,
    name: String,
}

/// What a repository is put together from.
pub(super) struct RepositoryParts {
    pub(super) running: Deployment,
    pub(super) folder: PathBuf,
    pub(super) allocation: Allocation,
    pub(super) reload: Reload,
    pub(super) lineup: Arc<Lineup>,
    pub(super) ending: Ending,
    pub(super) prefix: String,
}

impl Repository {
    pub(super) fn new(parts: RepositoryParts) -> Self {
        let RepositoryParts { running, folder, allocation, reload, lineup, ending, prefix } = parts;
        let next_instance = AtomicU32::new(running.instances().count() as u32);
        let next_model = AtomicU32::new(running.models.len() as u32);
        Self {
            running,
            folder,
            allocation,
            reload,
            lineup,
            gateway: OnceLock::new(),
            ending,
            prefix,
            next_instance,
            next_model,
            changing: Changing::default(),
        }
    }

    /// The gateway that serves the models.
    pub(super) fn set_gateway(&self, gateway: GatewayState) {
        let _ = self.gateway.set(gateway);
    }

    async fn load(&self, name: &str) -> anyhow::Result<()> {
        self.check_worlds()?;
        let change = self.begin(name, "being loaded")?;
        let gateway = self.gateway.get().ok_or_else(|| anyhow::anyhow!("it is not open yet"))?;
        let (deployment, model) = tokio::task::block_in_place(|| self.read(name))?;
        let before = self.lineup.model(name);
        if let Some(same) = before.as_ref().filter(|it| it.model == model && it.is_kept()) {
            return self.comes(same).await;
        }
        let served = Arc::new(self.start(deployment, &model, before.as_deref())?);
        // Replaced models keep their place among the names.
        self.lineup.enter(served.clone());
        let text = tokio::task::spawn_blocking({
            let source = model.source.clone();
            move || text(&source)
        });
        let serves = async {
            let text = text.await??;
            self.comes(&served).await?;
            let parts = ModelParts {
                name: name.to_owned(),
                engine: served.engine.clone(),
                page: served.page.clone(),
                default: served.label == ModelLabel::plain(),
                request_timeout: model.request_timeout,
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
            self.ending.end(&served, before.as_ref()).await;
            return Err(error);
        }
        if let Some(before) = before {
            change.goes_on("being replaced: requests of the one before still run");
            let ending = self.ending.clone();
            // The model is there; how long that takes is its last requests' own affair.
            tokio::spawn(async move {
                ending.end(&before, Some(&served)).await;
                drop(change);
            });
        }
        Ok(())
    }

    /// Waits until a model takes requests.
    async fn comes(&self, served: &Served) -> anyhow::Result<()> {
        let serves = async {
            let stage = served.reaches(|stage| *stage != Stage::Loading).await;
            if stage == Stage::Serving {
                served.engine.settled().await;
            }
        };
        // The instances' own time to serve, once more for those that are just restarting.
        let longest = 2 * self.running.launch.ready_timeout;
        let _ = tokio::time::timeout(longest, serves).await;
        match served.state() {
            (ModelState::Ready, _) => Ok(()),
            (_, why) if why.is_empty() => anyhow::bail!("it takes no requests"),
            (_, why) => anyhow::bail!("{why}"),
        }
    }

    async fn unload(&self, name: &str) -> anyhow::Result<()> {
        self.check_worlds()?;
        let _change = self.begin(name, "being unloaded")?;
        let Some(served) = self.lineup.model(name) else { return Ok(()) };
        if let Some(gateway) = self.gateway.get() {
            gateway.remove_model(name)?;
        }
        self.ending.end(&served, None).await;
        Ok(())
    }

    /// Begins to change a model, unless somebody does already.
    fn begin(&self, name: &str, doing: &'static str) -> Result<Change, RepositoryError> {
        let mut changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_owned();
        if let Some(&doing) = changing.get(&name) {
            return Err(RepositoryError::Busy { name, doing });
        }
        changing.insert(name.clone(), doing);
        Ok(Change { changing: self.changing.clone(), name })
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

    /// Has the instances of a model started, beside those that run. It goes on with the counts of the one
    /// before.
    fn start(
        &self,
        deployment: Deployment,
        model: &Model,
        before: Option<&Served>,
    ) -> anyhow::Result<Served> {
        let layout = Layout::new(&deployment, &self.allocation)?;
        let number = self.next_model.fetch_add(1, Ordering::Relaxed);
        let config = self.folder.join(format!("deployment.{number}.toml"));
        std::fs::write(&config, deployment.to_toml()?)?;
        starter::write_layout(&config, &layout)?;
        let page = match before {
            Some(before) => before.page.clone(),
            None => Arc::new(MetricsPage::create(&self.prefix, number as usize)?),
        };
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
        for (&instance, place) in instances.iter().zip(places) {
            let name = generation.deployment.instance_name(place);
            let placement = Placement { generation: generation.clone(), place };
            let model = model.name.clone();
            self.ending.events.send(Event::Add { instance, model, name, placement })?;
        }
        Ok(Served::new(model.clone(), label, page, instances))
    }
}

impl Change {
    fn goes_on(&self, doing: &'static str) {
        let mut changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        changing.insert(self.name.clone(), doing);
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl ModelRepository for Repository {
    fn index(&self) -> BoxFuture<'_, Vec<IndexEntry>> {
        Box::pin(async {
            let mut entries: Vec<IndexEntry> = Vec::new();
            for served in self.lineup.models() {
                let (state, reason) = served.state();
                let entry = IndexEntry { name: served.model.name.clone(), state, reason };
                // Of a model and the one that takes its place, the one that says more of what clients get.
                match entries.iter_mut().find(|it| it.name == entry.name) {
                    Some(it) if rank(entry.state) < rank(it.state) => *it = entry,
                    Some(_) => {}
                    None => entries.push(entry),
                }
            }
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

/// States in the order in which they count.
fn rank(state: ModelState) -> u32 {
    match state {
        ModelState::Ready => 0,
        ModelState::Loading => 1,
        ModelState::Unloading => 2,
        ModelState::Unavailable => 3,
    }
}

fn failed(name: &str, error: anyhow::Error) -> RepositoryError {
    match error.downcast::<RepositoryError>() {
        Ok(error) => error,
        Err(error) => RepositoryError::Failed { reason: format!("{name}: {error:#}") },
    }
}
