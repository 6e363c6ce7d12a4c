//! Where models come from while others serve: what the launcher does for the repository API.

use futures_util::future::BoxFuture;
use thiserror::Error;

/// The models of a deployment, loaded or not.
///
/// Whoever implements this adds to and removes from the [`GatewayState`](crate::GatewayState) what it
/// loads and unloads. A call goes on to its end even if its client leaves.
pub trait ModelRepository: Send + Sync + 'static {
    /// All models, each by its own name.
    fn index(&self) -> BoxFuture<'_, Vec<IndexEntry>>;

    /// Loads a model and returns when it takes requests; at once if it does already.
    ///
    /// # Errors
    /// [`RepositoryError`]; other models serve as before.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RepositoryError>>;

    /// Unloads a model and returns when its requests have ended or were handed on, and its ranks are
    /// gone; at once if it is not loaded.
    ///
    /// # Errors
    /// [`RepositoryError`].
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RepositoryError>>;
}

/// A model of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its own name.
    pub name: String,
    /// What it does.
    pub state: ModelState,
    /// Why it is not there; empty otherwise.
    pub reason: String,
}

/// What a model of a repository does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// It takes requests.
    Ready,
    /// It will.
    Loading,
    /// Its last requests run.
    Unloading,
    /// It is not loaded.
    Unavailable,
}

impl ModelState {
    /// As the reference writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Loading => "LOADING",
            Self::Unloading => "UNLOADING",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// Why a model was not loaded or unloaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RepositoryError {
    /// The deployment has none of this name.
    #[error("the deployment has no model '{name}'")]
    Unknown {
        /// The name.
        name: String,
    },
    /// It is being loaded, unloaded or replaced; later it may be possible.
    #[error("the model '{name}' is {doing}, please try again later")]
    Busy {
        /// The model.
        name: String,
        /// What is done with it.
        doing: &'static str,
    },
    /// This deployment can't, and won't later.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// It was tried.
    #[error("{reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}
