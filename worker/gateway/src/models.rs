//! The models that are served now, and the names that each of them has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use shardrun_metrics::{MetricsPage, ModelLabel};
use shardrun_wire::{EngineClient, EngineLimits, EngineState, Refused};
use thiserror::Error;

use crate::TextModel;
use crate::error::ApiError;
use crate::named::NamedRequests;
use crate::served::Served;

/// Longest name of a model, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What a model is put together from.
#[derive(Clone)]
pub struct ModelParts {
    /// What clients call it.
    pub name: String,
    /// Runs the requests; says that it is loading until it is ready.
    pub engine: Arc<dyn EngineClient>,
    /// Where the model's requests are counted.
    pub page: Arc<MetricsPage>,
    /// Whether it has the plain names of the reference, too. One model of a deployment does.
    pub default: bool,
    /// How long requests may take that name no timeout; `None` for no limit.
    pub request_timeout: Option<Duration>,
}

impl fmt::Debug for ModelParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelParts")
            .field("name", &self.name)
            .field("state", &self.engine.state())
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

/// Why a model can't be served under its name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ModelError {
    /// The name can't stand in a path.
    #[error(
        "a model is named {name:?}: 1 to {MAX_NAME_BYTES} letters, digits, '.', '_' and '-' are \
         allowed"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The reference's own names mean the default model.
    #[error("a model is named '{name}': that name always means the deployment's default model")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Clients could not tell the two apart.
    #[error(
        "the model '{model}' would be served as '{name}', which the model '{other}' is already"
    )]
    NameTaken {
        /// The model that comes second.
        model: String,
        /// The name that both would have.
        name: String,
        /// The model that has it.
        other: String,
    },
    /// There is none of this name.
    #[error("there is no model '{name}'")]
    Unknown {
        /// The name.
        name: String,
    },
}

/// A model that is served.
pub(crate) struct Model {
    parts: ModelParts,
    text: OnceLock<Arc<dyn TextModel>>,
    /// Shared with those that it replaces, so that their requests can be stopped.
    named: NamedRequests,
}

/// What takes requests once the model is there.
pub(crate) struct Ready {
    pub(crate) text: Arc<dyn TextModel>,
    pub(crate) limits: EngineLimits,
}

impl Model {
    fn new(parts: ModelParts, text: Option<Arc<dyn TextModel>>, named: NamedRequests) -> Self {
        Self { parts, text: text.map_or_else(OnceLock::new, OnceLock::from), named }
    }

    /// What a request needs. An engine that loads though its limits are known is expected back: it
    /// decides itself whether a request may wait.
    ///
    /// # Errors
    /// If the engine takes no requests, with what it does instead.
    pub(crate) fn ready(&self) -> Result<Ready, ApiError> {
        match self.engine().state() {
            EngineState::Ready | EngineState::Loading => {}
            EngineState::Draining => return Err(Refused::Draining.into()),
            EngineState::Stopped => {
                return Err(ApiError::EngineStopped { reason: self.engine().why_ended() });
            }
        }
        let text = self.text.get().cloned().ok_or(Refused::Loading)?;
        let limits = self.engine().limits().ok_or(Refused::Loading)?;
        Ok(Ready { text, limits })
    }

    /// What it does now: ready when requests run at once.
    pub(crate) fn state(&self) -> EngineState {
        match self.engine().state() {
            EngineState::Ready if self.ready().is_err() => EngineState::Loading,
            state => state,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state() == EngineState::Ready
    }

    pub(crate) fn engine(&self) -> &Arc<dyn EngineClient> {
        &self.parts.engine
    }

    pub(crate) fn request_timeout(&self) -> Option<Duration> {
        self.parts.request_timeout
    }

    pub(crate) fn page(&self) -> &Arc<MetricsPage> {
        &self.parts.page
    }

    pub(crate) fn named(&self) -> &NamedRequests {
        &self.named
    }

    /// All its names, its own first.
    pub(crate) fn names(&self) -> Vec<String> {
        served_names(&self.parts).into_iter().map(|(name, _)| name).collect()
    }
}

/// The names of a model, and what each of them means.
fn served_names(parts: &ModelParts) -> Vec<(String, Served)> {
    let labelled = |label: ModelLabel| {
        Served::ALL.map(|served| (label.name(served.counted()), served)).into_iter()
    };
    let own = std::iter::once((parts.name.clone(), Served::Ensemble));
    let plain = parts.default.then(|| labelled(ModelLabel::plain()));
    own.chain(labelled(ModelLabel::suffixed(&parts.name)))
        .chain(plain.into_iter().flatten())
        .collect()
}

/// All models by all their names. Changes are seen by the next request; those that run keep the
/// model that they began with.
#[derive(Default)]
pub(crate) struct Models(RwLock<Registry>);

#[derive(Default)]
struct Registry {
    /// By their own names.
    models: BTreeMap<String, Arc<Model>>,
    /// By what clients may say.
    served: BTreeMap<String, (Arc<Model>, Served)>,
}

impl Models {
    /// # Errors
    /// All but [`ModelError::Unknown`].
    pub(crate) fn add(&self, parts: ModelParts) -> Result<(), ModelError> {
        let mut registry = self.write();
        let name = parts.name.clone();
        if registry.models.contains_key(&name) {
            let (model, other) = (name.clone(), name.clone());
            return Err(ModelError::NameTaken { model, name, other });
        }
        registry.put(Model::new(parts, None, NamedRequests::default()))
    }

    /// # Errors
    /// [`ModelError::Unknown`], or what [`Models::add`] says.
    pub(crate) fn replace(
        &self,
        parts: ModelParts,
        text: Arc<dyn TextModel>,
    ) -> Result<(), ModelError> {
        let mut registry = self.write();
        let named = registry.named(&parts.name)?.named.clone();
        registry.put(Model::new(parts, Some(text), named))
    }

    /// # Errors
    /// [`ModelError::Unknown`].
    pub(crate) fn set_text(&self, name: &str, text: Arc<dyn TextModel>) -> Result<(), ModelError> {
        // A second one is ignored.
        let _ = self.read().named(name)?.text.set(text);
        Ok(())
    }

    /// # Errors
    /// [`ModelError::Unknown`].
    pub(crate) fn remove(&self, name: &str) -> Result<(), ModelError> {
        let mut registry = self.write();
        registry.named(name)?;
        registry.take(name);
        Ok(())
    }

    /// What a client means by `name`.
    pub(crate) fn get(&self, name: &str) -> Option<(Arc<Model>, Served)> {
        self.read().served.get(name).cloned()
    }

    /// All that clients may say.
    pub(crate) fn names(&self) -> Vec<String> {
        self.read().served.keys().cloned().collect()
    }

    /// All models, by their own names in order.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Model>)> {
        let models = &self.read().models;
        models.iter().map(|(name, model)| (name.clone(), model.clone())).collect()
    }

    /// The model that clients call `name`, by its own name.
    pub(crate) fn own_name(&self, name: &str) -> Option<String> {
        self.read().served.get(name).map(|(model, _)| model.parts.name.clone())
    }

    /// The model with the plain names, or the only one.
    pub(crate) fn default_one(&self) -> Option<Arc<Model>> {
        let models = &self.read().models;
        let only = || models.values().next().filter(|_| models.len() == 1);
        models.values().find(|model| model.parts.default).or_else(only).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        // A registry is whole again before anything can panic.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn named(&self, name: &str) -> Result<&Arc<Model>, ModelError> {
        self.models.get(name).ok_or_else(|| ModelError::Unknown { name: name.to_owned() })
    }

    /// Serves `model`, in the place of the one of its name.
    fn put(&mut self, model: Model) -> Result<(), ModelError> {
        let own = model.parts.name.clone();
        check_name(&own)?;
        let names = served_names(&model.parts);
        for (name, _) in &names {
            let has_it = self.served.get(name).map(|(other, _)| &other.parts.name);
            if let Some(other) = has_it.filter(|&other| *other != own) {
                let (name, other) = (name.clone(), other.clone());
                return Err(ModelError::NameTaken { model: own, name, other });
            }
        }
        self.take(&own);
        let model = Arc::new(model);
        self.served.extend(names.into_iter().map(|(name, served)| (name, (model.clone(), served))));
        self.models.insert(own, model);
        Ok(())
    }

    fn take(&mut self, name: &str) {
        self.models.remove(name);
        self.served.retain(|_, (model, _)| model.parts.name != name);
    }
}

fn check_name(name: &str) -> Result<(), ModelError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(ModelError::BadName { name: name.to_owned() });
    }
    if Served::ALL.iter().any(|served| served.counted().name() == name) {
        return Err(ModelError::Reserved { name: name.to_owned() });
    }
    Ok(())
}
