//! The running requests that clients gave an id, so that a stop can name them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardrun_wire::{EngineClient, RequestId};

/// Running requests by the clients' ids. Of an id given twice, the later request has it.
#[derive(Clone, Default)]
pub(crate) struct NamedRequests(Arc<Mutex<HashMap<String, Place>>>);

/// Where a request runs.
type Place = (RequestId, Arc<dyn EngineClient>);

/// A request's entry, as long as it runs.
pub(crate) struct Named {
    requests: NamedRequests,
    name: String,
    id: RequestId,
}

impl NamedRequests {
    /// Enters a request, unless its name is empty.
    pub(crate) fn enter(
        &self,
        name: &str,
        id: RequestId,
        engine: &Arc<dyn EngineClient>,
    ) -> Option<Named> {
        if name.is_empty() {
            return None;
        }
        self.lock().insert(name.to_owned(), (id, engine.clone()));
        Some(Named { requests: self.clone(), name: name.to_owned(), id })
    }

    /// Cancels the running request of this name, if there is one.
    pub(crate) fn cancel(&self, name: &str) {
        let place = self.lock().get(name).cloned();
        if let Some((id, engine)) = place {
            engine.cancel(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        // Each change is one call on the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let mut requests = self.requests.lock();
        if requests.get(&self.name).is_some_and(|(id, _)| *id == self.id) {
            requests.remove(&self.name);
        }
    }
}
