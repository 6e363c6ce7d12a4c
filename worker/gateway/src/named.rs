//! The running requests that clients gave an id, so that a stop can name them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardrun_wire::RequestId;

/// Running requests by the clients' ids. Of an id given twice, the later request has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedRequests(Arc<Mutex<HashMap<String, RequestId>>>);

/// A request's entry, as long as it runs.
pub(crate) struct Named {
    requests: NamedRequests,
    name: String,
    id: RequestId,
}

impl NamedRequests {
    /// Enters a request, unless its name is empty.
    pub(crate) fn enter(&self, name: &str, id: RequestId) -> Option<Named> {
        if name.is_empty() {
            return None;
        }
        self.lock().insert(name.to_owned(), id);
        Some(Named { requests: self.clone(), name: name.to_owned(), id })
    }

    /// The running request of this name.
    pub(crate) fn get(&self, name: &str) -> Option<RequestId> {
        self.lock().get(name).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, RequestId>> {
        // Each change is one call on the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let mut requests = self.requests.lock();
        if requests.get(&self.name) == Some(&self.id) {
            requests.remove(&self.name);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_later_request_of_a_name_keeps_it() {
        let requests = NamedRequests::default();
        assert!(requests.enter("", RequestId(1)).is_none());
        let first = requests.enter("a", RequestId(1)).unwrap();
        let second = requests.enter("a", RequestId(2)).unwrap();
        drop(first);
        assert_eq!(requests.get("a"), Some(RequestId(2)));
        drop(second);
        assert_eq!(requests.get("a"), None);
    }
}
